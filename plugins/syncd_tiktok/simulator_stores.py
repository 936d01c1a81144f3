"""The stores of the simulated upstream: their users and videos, and what can happen to them.

Everything is invented and drawn from a seed. All methods finish at once, so that between two
requests a store is always whole.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterator
from random import Random
from typing import Any, Literal

import attrs

NEWEST_MS = 1_767_000_000_000  # when the newest video was made: 29 December 2025
SPACING_MS = 3_600_000  # between two videos

# Of what a cursor is: whole seconds, as in the documentation's example, or milliseconds.
CursorsIn = Literal["seconds", "milliseconds"]

_FIRST_ID = 7_300_000_000_000_000_000  # ids are past what a float holds
_WORDS = ("promo", "new", "live", "unboxing", "restock", "behind the scenes", "thank you", "sale")


@attrs.define
class Video:
    """One video. A `hidden` one is private: it is looked at, and not shown."""

    id: str
    created_ms: int
    title: str
    views: int
    likes: int
    comments: int
    shares: int
    hidden: bool = False

    @property
    def create_time(self) -> int:
        """Return when it was made, in seconds."""
        return self.created_ms // 1000


@attrs.frozen
class Slice:
    """Videos that a page shows, the cursor after them, and whether others follow."""

    videos: list[Video]
    cursor: int
    has_more: bool


class Store:
    """One store: a user, and videos, the newest first."""

    def __init__(self, name: str, videos: int, *, seed: int = 0) -> None:
        self.name = name
        self._random = Random(f"tiktok {seed} {name}")  # noqa: S311 - no secret
        draw = self._random
        self.open_id = f"open-{name}-{draw.randrange(10**9):09d}"
        self.display_name = f"Toko {name}"
        self.followers = draw.randrange(100, 100_000)
        self.following = draw.randrange(500)
        self.likes = draw.randrange(1_000, 5_000_000)
        # Oldest first, as they are made; keys are negative moments of the newest first.
        self.videos: list[Video] = []
        self._made = 0
        for place in range(videos):
            age_ms = SPACING_MS * (videos - 1 - place)
            self.publish(NEWEST_MS - age_ms + draw.randrange(1000))

    # --- What can happen --------------------------------------------------------------------------

    def publish(self, created_ms: int | None = None) -> Video:
        """Make a video, by default an hour after the newest one."""
        if created_ms is None:
            created_ms = self.videos[-1].created_ms + SPACING_MS if self.videos else NEWEST_MS
        draw, self._made = self._random, self._made + 1
        views = draw.randrange(100, 10_000)
        video = Video(
            id=str(_FIRST_ID + draw.randrange(10**6) * 10**6 + self._made),
            created_ms=created_ms,
            title=f"{draw.choice(_WORDS)} {self._made}",
            views=views,
            likes=views // 10,
            comments=views // 100,
            shares=views // 200,
        )
        insort(self.videos, video, key=_made_at)
        return video

    def delete(self, video_id: str) -> None:
        """Delete a video. Raises: `KeyError` where there is none of this id."""
        self.videos.remove(self.video(video_id))

    def video(self, video_id: str) -> Video:
        """Return a video. Raises: `KeyError` where there is none of this id."""
        for video in self.videos:
            if video.id == video_id:
                return video
        raise KeyError(video_id)

    def move(self, random: Random, *, share: float) -> None:
        """Let the counts of a share of the videos rise, and those of the store."""
        self.followers += random.randrange(1, 5)
        self.likes += random.randrange(1, 50)
        for video in random.sample(self.videos, k=round(share * len(self.videos))):
            video.views += random.randrange(1, 100)
            video.likes += random.randrange(1, 10)

    # --- What is true -----------------------------------------------------------------------------

    @property
    def shown(self) -> Iterator[Video]:
        """Yield the videos that are public, the newest first."""
        return (video for video in reversed(self.videos) if not video.hidden)

    def user(self, *, signature: int) -> dict[str, Any]:
        """Return every field of the user; `signature` marks its signed addresses."""
        avatar = f"https://p16.tiktok.example/{self.open_id}"
        signed = f"?x-expires={NEWEST_MS // 1000 + signature}&x-signature={signature:08x}"
        return {
            "open_id": self.open_id,
            "union_id": f"union-{self.open_id}",
            "avatar_url": f"{avatar}.jpeg{signed}",
            "avatar_url_100": f"{avatar}_100.jpeg{signed}",
            "avatar_large_url": f"{avatar}_large.jpeg{signed}",
            "display_name": self.display_name,
            "bio_description": "everything for the home",
            "profile_deep_link": f"https://vm.tiktok.example/{self.name}",
            "is_verified": False,
            "username": self.name.replace("-", ""),
            "follower_count": self.followers,
            "following_count": self.following,
            "likes_count": self.likes,
            "video_count": sum(1 for _ in self.shown),
        }

    def render(self, video: Video, *, signature: int) -> dict[str, Any]:
        """Return every field of a video; `signature` marks its signed addresses."""
        share_url = f"https://www.tiktok.example/@{self.name}/video/{video.id}"
        return {
            "id": video.id,
            "create_time": video.create_time,
            "cover_image_url": f"https://p16.tiktok.example/{video.id}.jpeg"
            f"?x-expires={NEWEST_MS // 1000 + signature}&x-signature={signature:08x}",
            "share_url": f"{share_url}?utm_campaign=c{signature}",
            "video_description": f"{video.title} #sale",
            "duration": 10 + int(video.id) % 50,
            "height": 1024,
            "width": 576,
            "title": video.title,
            "embed_html": f"<blockquote cite={share_url}></blockquote>",
            "embed_link": f"https://www.tiktok.example/player/v1/{video.id}?utm_source=s{signature}",
            "like_count": video.likes,
            "comment_count": video.comments,
            "share_count": video.shares,
            "view_count": video.views,
        }

    def page(self, before_ms: int | None, count: int, *, cursors_in: CursorsIn) -> Slice:
        """Return the next `count` videos made before a moment, but for those that are hidden."""
        whole = cursors_in == "seconds"
        end = len(self.videos)
        if before_ms is not None:
            # In whole seconds, a video is as old as its second: others of it are passed over.
            moment = -(-before_ms // 1000) * 1000 if whole else before_ms
            end = bisect_left(self.videos, moment, key=_made_at)
        begin = max(end - count, 0)
        looked_at = self.videos[begin:end]
        last_ms = looked_at[0].created_ms if looked_at else before_ms or NEWEST_MS
        return Slice(
            videos=[video for video in reversed(looked_at) if not video.hidden],
            cursor=last_ms // 1000 * 1000 if whole else last_ms,
            has_more=begin > 0,
        )


def _made_at(video: Video) -> int:
    return video.created_ms
