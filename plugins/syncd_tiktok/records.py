"""What the Display API sends of users and videos, and the rows that are made of it. Pure.

Ids are text: they have 64 bits. `create_time` is in seconds, cursors in milliseconds. Addresses of
pictures are signed and expire, so they differ at every look: their columns are volatile.
"""

from __future__ import annotations

import re
from datetime import UTC, date, datetime

import attrs
import msgspec

# The moment at which a signed address ends, in seconds (`x-expires=1763620000`).
_EXPIRES = re.compile(r"[?&]x-expires=([0-9]{1,12})(?:&|$)")


class UserRecord(msgspec.Struct, gc=False):
    """A user as `/user/info/` sends it; `snapshot_date` and `captured_at` are its page's."""

    open_id: str | None = None
    union_id: str | None = None
    display_name: str | None = None
    username: str | None = None
    avatar_url: str | None = None
    bio_description: str | None = None
    profile_deep_link: str | None = None
    is_verified: bool | None = None
    follower_count: int | None = None
    following_count: int | None = None
    likes_count: int | None = None
    video_count: int | None = None
    snapshot_date: str = ""
    captured_at: str = ""


class VideoRecord(msgspec.Struct, gc=False):
    """A video as `/video/list/` sends it; `snapshot_date` and `captured_at` are its page's."""

    video_id: str = msgspec.field(name="id")
    create_time: int | None = None
    title: str | None = None
    video_description: str | None = None
    duration: int | None = None
    width: int | None = None
    height: int | None = None
    share_url: str | None = None
    cover_image_url: str | None = None
    view_count: int | None = None
    like_count: int | None = None
    comment_count: int | None = None
    share_count: int | None = None
    snapshot_date: str = ""
    captured_at: str = ""


@attrs.define
class UserDaily:
    """A row of `user_daily`: how a store stood on one day."""

    snapshot_date: date
    open_id: str | None
    union_id: str | None
    display_name: str | None
    username: str | None
    avatar_url: str | None
    bio_description: str | None
    profile_deep_link: str | None
    is_verified: bool | None
    follower_count: int | None
    following_count: int | None
    likes_count: int | None
    video_count: int | None
    captured_at: datetime


@attrs.define
class Video:
    """A row of `videos`: what seldom changes about a video."""

    video_id: str
    create_time: datetime | None
    title: str | None
    description: str | None
    duration_seconds: int | None
    width: int | None
    height: int | None
    share_url: str | None
    cover_url: str | None
    cover_expires_at: datetime | None


@attrs.define
class VideoDaily:
    """A row of `video_daily`: the counts of a video on one day."""

    video_id: str
    snapshot_date: date
    view_count: int | None
    like_count: int | None
    comment_count: int | None
    share_count: int | None
    captured_at: datetime


def user_of(record: UserRecord) -> UserDaily:
    """Make the row of a user on the day of its page."""
    return UserDaily(
        snapshot_date=date.fromisoformat(record.snapshot_date),
        open_id=record.open_id,
        union_id=record.union_id,
        display_name=record.display_name,
        username=record.username,
        avatar_url=record.avatar_url,
        bio_description=record.bio_description,
        profile_deep_link=_without_query(record.profile_deep_link),
        is_verified=record.is_verified,
        follower_count=record.follower_count,
        following_count=record.following_count,
        likes_count=record.likes_count,
        video_count=record.video_count,
        captured_at=datetime.fromisoformat(record.captured_at),
    )


def video_of(record: VideoRecord) -> Video:
    """Make the row of a video."""
    return Video(
        video_id=record.video_id,
        create_time=_moment(record.create_time),
        title=record.title,
        description=record.video_description,
        duration_seconds=record.duration,
        width=record.width,
        height=record.height,
        share_url=_without_query(record.share_url),
        cover_url=record.cover_image_url,
        cover_expires_at=_expires_at(record.cover_image_url),
    )


def counts_of(record: VideoRecord) -> VideoDaily:
    """Make the row of a video's counts on the day of its page."""
    return VideoDaily(
        video_id=record.video_id,
        snapshot_date=date.fromisoformat(record.snapshot_date),
        view_count=record.view_count,
        like_count=record.like_count,
        comment_count=record.comment_count,
        share_count=record.share_count,
        captured_at=datetime.fromisoformat(record.captured_at),
    )


def _without_query(url: str | None) -> str | None:
    """Return an address without what marks the one who asked for it."""
    return None if url is None else url.partition("?")[0]


def _moment(seconds: int | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)


def _expires_at(url: str | None) -> datetime | None:
    found = _EXPIRES.search(url or "")
    return _moment(int(found[1])) if found else None
