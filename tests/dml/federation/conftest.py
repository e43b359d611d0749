"""Fixtures of a tracking store, shared by the packages above it."""

from tests.tracking_fixtures import client, here, params, template_store, workplace

__all__ = ["client", "here", "params", "template_store", "workplace"]
