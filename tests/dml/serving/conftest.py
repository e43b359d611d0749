"""A registered student behind a real server process."""

from tests.dml.serving.server_process import server, workplace_with_model
from tests.tracking_fixtures import client, params, template_store, workplace

__all__ = ["client", "params", "server", "template_store", "workplace", "workplace_with_model"]
