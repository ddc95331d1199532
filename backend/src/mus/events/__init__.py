"""Typed events: told by whoever commits a change, heard over the broker's pub/sub (DESIGN §7).

Pub/sub forgets and the ledger does not, so an event is a hint that arrives early: whoever begins to listen, or has
lost the broker for a moment, reads the rows first.
"""
