"""Addresses of MLflow's pages that list the runs of a task or of a study, the best one first.

MLflow reads filter and order from the address, as its own pages write them there. Which columns and charts are shown
can only be stored as undocumented state of the page, and is left to the user.
"""

from typing import TYPE_CHECKING
from urllib.parse import quote, urlencode

if TYPE_CHECKING:
    from mlflow import MlflowClient

_TAG = "dml.page."
"""Tag of an experiment with the address of a page, by its name."""
_CHARTS = {"compareRunsMode": "CHART", "workflowType": "machine_learning"}
"""Charts beside the rows; runs and metrics, not traces of language models."""


def save_page(
    client: "MlflowClient", experiment: str, name: str, query: str, metric: str, lowest_first: bool = False
) -> None:
    """Store the address of the runs that match a query, ordered by a metric."""
    order = {"orderByKey": f"metrics.`{metric}`", "orderByAsc": str(lowest_first).lower()}
    address = urlencode({"searchFilter": query, **order, **_CHARTS}, quote_via=quote)
    client.set_experiment_tag(experiment, _TAG + name, f"#/experiments/{experiment}/runs?{address}")


def pages(client: "MlflowClient") -> dict[str, str]:
    """Return all stored addresses (what follows the server's) by name."""
    experiments = sorted(client.search_experiments(), key=lambda experiment: experiment.name)
    return {
        tag.removeprefix(_TAG): address
        for experiment in experiments
        for tag, address in sorted(experiment.tags.items())
        if tag.startswith(_TAG)
    }
