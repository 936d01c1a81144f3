"""Leads: the providers that somebody is to call, made in the database of those that are there.

A lead that stands is never touched: what was noted of it is the callers', and no sync resets it.
"""

from __future__ import annotations

from datetime import datetime

import attrs

from syncd import Derivation


@attrs.frozen
class Leads:
    """Which providers become leads: those that are active, and fit all that is named."""

    specialties: tuple[str, ...] = attrs.field(
        default=(),
        metadata={"about": "primary taxonomies, by description or code; all if none is named"},
    )
    states: tuple[str, ...] = attrs.field(
        default=(), metadata={"about": "where they practise, two letters; everywhere if none is"}
    )
    campaign: str = attrs.field(
        default="", metadata={"about": "a provider is a lead once for each campaign"}
    )


@attrs.define
class Lead:
    """A row of `leads`.

    `status`: NEW, and then what callers make of it (CONTACTED, INTERESTED, NOT_INTERESTED,
    FOLLOW_UP, CONVERTED, DO_NOT_CALL).
    """

    provider_npi: str
    campaign: str
    status: str
    notes: str | None
    last_contacted_at: datetime | None
    last_contact_type: str | None
    created_at: datetime
    updated_at: datetime


_SELECT = """
SELECT p.npi AS provider_npi, %(campaign)s::text AS campaign, 'NEW'::text AS status,
       NULL::text AS notes, NULL::timestamptz AS last_contacted_at, NULL::text AS last_contact_type,
       syncd.clock() AS created_at, syncd.clock() AS updated_at
  FROM {providers} AS p
 WHERE %(are_wanted)s AND coalesce(p.status, 'A') = 'A'
   AND (%(all_specialties)s OR lower(p.taxonomy) = ANY (%(specialties)s::text[])
        OR lower(p.taxonomy_code) = ANY (%(specialties)s::text[]))
   AND (%(all_states)s OR upper(p.location_state) = ANY (%(states)s::text[]))
"""


def derivation_of(leads: Leads | None) -> Derivation:
    """Return what leads are made of; none are where none are configured."""
    wanted = leads or Leads()
    parameters = {
        "are_wanted": leads is not None,
        "campaign": wanted.campaign,
        "all_specialties": not wanted.specialties,
        "specialties": [each.lower() for each in wanted.specialties],
        "all_states": not wanted.states,
        "states": [each.upper() for each in wanted.states],
    }
    return Derivation(_SELECT, ("providers",), parameters)
