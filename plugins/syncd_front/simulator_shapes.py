"""How the simulated upstream writes its objects: fields and types as the API's description has."""

from __future__ import annotations

from typing import Any

from syncd_front.simulator_mail import Conversation, Message


def conversation_json(conversation: Conversation, base: str) -> dict[str, Any]:
    """Return every field of a conversation; of some, the times are missing."""
    link = f"{base}/conversations/{conversation.id}"
    last = conversation.messages[-1].id if conversation.messages else None
    times = {
        "created_at": conversation.messages[0].at if conversation.messages else None,
        "updated_at": conversation.updated_at,
    }
    return {
        "_links": {
            "self": link,
            "related": {
                "messages": f"{link}/messages",
                "last_message": f"{base}/messages/{last}?referer=conversation",
            },
        },
        "id": conversation.id,
        "type": conversation.kind,
        "subject": conversation.subject,
        "status": "unassigned",
        "ticket_ids": [],
        "assignee": None,
        "recipient": _person(conversation, "from"),
        "tags": [{"id": f"tag_{name}", "name": name} for name in conversation.tags],
        "links": [],
        "custom_fields": {},
        **(times if conversation.dated else {}),
        "waiting_since": None,
        "is_private": False,
        "scheduled_reminders": [],
        "metadata": {},
    }


def message_json(conversation: Conversation, message: Message, base: str) -> dict[str, Any]:
    """Return every field of a message; of some, the text stands in the body alone."""
    link = f"{base}/conversations/{conversation.id}"
    lines = message.text.replace("&", "&amp;").replace("<", "&lt;").split("\n")
    ours = {"name": None, "handle": "orders@acme.example", "role": "to"}
    return {
        "_links": {
            "self": f"{base}/messages/{message.id}",
            "related": {"conversation": link},
        },
        "id": message.id,
        "message_uid": f"uid-{message.id}",
        "type": "email",
        "is_inbound": message.inbound,
        "draft_mode": "shared" if message.draft else None,
        "error_type": None,
        "version": None,
        "created_at": message.at,
        "subject": message.subject,
        "blurb": message.text[:40],
        "author": None,
        "recipients": [_person(conversation, "from"), ours],
        "body": "".join(f"<p>{line}</p>" for line in lines),
        "text": None if message.html else message.text,
        "attachments": [],
        "signature": None,
        "metadata": {},
    }


def event_json(conversation: Conversation, message: Message, base: str) -> dict[str, Any]:
    """Return an event: that a message came, or was sent."""
    shown = message_json(conversation, message, base)
    return {
        "_links": {"self": f"{base}/events/evt_{message.id}"},
        "id": f"evt_{message.id}",
        "type": "inbound" if message.inbound else "outbound",
        "emitted_at": message.at,
        "source": {"_meta": {"type": "recipient"}, "data": None},
        "target": {"_meta": {"type": "message"}, "data": shown},
        "conversation": conversation_json(conversation, base),
    }


def _person(conversation: Conversation, role: str) -> dict[str, Any]:
    handle = f"{conversation.supplier.lower().replace(' ', '.')}@supplier.example"
    return {
        "_links": {"related": {"contact": None}},
        "name": conversation.contact or conversation.supplier,
        "handle": handle,
        "role": role,
    }
