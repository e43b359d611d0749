"""The federated training as a job of NVIDIA FLARE, which carries the messages; needs the extra `federation`.

The server's controller asks, every site's executor answers; a message is an FLModel whose parameters are the arrays and
whose metadata are the texts. What happens in between (transport, TLS, identity of sites, retries) is FLARE's.
"""

import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from nvflare.apis.executor import Executor
from nvflare.apis.fl_constant import ReturnCode
from nvflare.apis.fl_context import FLContext
from nvflare.apis.shareable import Shareable, make_reply
from nvflare.apis.signal import Signal
from nvflare.app_common.abstract.fl_model import FLModel
from nvflare.app_common.default_component_policy import DEFAULT_CLASS_ALLOW_LIST
from nvflare.app_common.utils.fl_model_utils import FLModelUtils
from nvflare.app_common.workflows.model_controller import ModelController
from nvflare.job_config.api import FedJob

from dml.config import params as config
from dml.core.errors import DmlError, InputError
from dml.core.files import read_json, write_json
from dml.federation.coordinator import FederationSettings
from dml.federation.federated_result import train_across, write_result
from dml.federation.federated_site import Site
from dml.federation.messages import Message

SITE_DATA = "DML_SITE_DATA"
"""Environment variable of a site's process: folder of its cohort store."""
TEXTS, SITE_NAME, ALLOWED = "texts", "client_name", "class_allow_list"
OUTCOME = "outcome.json"
"""Written by the server beside the description of a training: why it failed, "" if it did not."""


def to_flare(message: Message) -> FLModel:
    """Return a message as FLARE carries it."""
    return FLModel(
        params=dict(message.arrays), meta={TEXTS: json.dumps({k: list(v) for k, v in message.texts.items()})}
    )


def from_flare(model: FLModel) -> Message:
    """Return the message that FLARE carried."""
    return Message(dict(model.params or {}), json.loads(model.meta.get(TEXTS, "{}")))


class FederationController(ModelController):  # type: ignore[misc]
    """The server's part.

    Parameters
    ----------
    description : str
        File that `describe_training` wrote; how the training ended is written beside it.
    answer_s : int
        How long a site has to answer; one that does not is left out of the round.
    """

    def __init__(self, description: str, answer_s: int = 3600) -> None:
        super().__init__()
        self.description, self.answer_s = description, answer_s

    def run(self) -> None:
        """Train and write the result."""
        path = Path(self.description)
        training = read_json(path)
        params, settings = config.Params.model_validate(training["params"]), FederationSettings(**training["settings"])
        try:
            result = train_across(self, params, training["task"], settings, training["roles"])
            write_result(result, params, training["task"], Path(training["out"]))
        except DmlError as error:
            write_json(path.with_name(OUTCOME), str(error))
            raise
        write_json(path.with_name(OUTCOME), "")

    def ask(self, kind: str, request: Message) -> Mapping[str, Message]:
        """Ask all sites that are connected."""
        answers = self.send_model_and_wait(
            task_name=kind, data=to_flare(request), min_responses=None, timeout=self.answer_s
        )
        return {str(answer.meta[SITE_NAME]): from_flare(answer) for answer in answers}


class SiteExecutor(Executor):  # type: ignore[misc]
    """A site's part.

    Parameters
    ----------
    folder : str
        Of the site's cohort store; "" takes the one that the environment variable names.
    """

    def __init__(self, folder: str = "") -> None:
        super().__init__()
        self.folder = folder
        self._site: Site | None = None

    def execute(self, task_name: str, shareable: Shareable, fl_ctx: FLContext, abort_signal: Signal) -> Shareable:
        """Answer one request; an error of the site is a failed answer, and its message stays in the site's log."""
        name = fl_ctx.get_identity_name()
        if self._site is None:
            folder = self.folder or os.environ.get(SITE_DATA, "")
            if not folder:
                raise InputError(name, f"{SITE_DATA} is not set", "Set it to the folder of the site's cohort store")
            self._site = Site(Path(folder), name)
        try:
            answer = self._site.answer(task_name, from_flare(FLModelUtils.from_shareable(shareable)))
        except DmlError as error:
            self.log_error(fl_ctx, str(error))
            return make_reply(ReturnCode.EXECUTION_EXCEPTION)
        return FLModelUtils.to_shareable(to_flare(answer))


def describe_training(
    path: Path, params: config.Params, task: str, settings: FederationSettings, roles: Sequence[str], out: Path
) -> None:
    """Write what the server is to train, and the folder that receives models and reports."""
    training = {"task": task, "settings": asdict(settings), "roles": list(roles), "out": str(out.absolute())}
    write_json(path, {**training, "params": params.model_dump(mode="json")})


def make_job(name: str, min_sites: int, sites: Mapping[str, str], description: Path) -> FedJob:
    """Return the job: sites by name to their folders ("" where each site's environment names it)."""
    job = FedJob(name=name, min_clients=min_sites)
    job.set_app_packages(["dml"])
    job.to_server(FederationController(str(description.absolute())))
    for name, folder in sites.items():
        job.to(SiteExecutor(folder), name)
    return job


def allowed_classes() -> list[str]:
    """Classes that a site's resources.json must allow (`class_allow_list`): FLARE's and the two of this module."""
    return [
        *DEFAULT_CLASS_ALLOW_LIST,
        *(f"{each.__module__}.{each.__name__}" for each in (FederationController, SiteExecutor)),
    ]


def simulate(
    params: config.Params,
    task: str,
    settings: FederationSettings,
    roles: Sequence[str],
    sites: Mapping[str, Path],
    out: Path,
) -> None:
    """Run the job in FLARE's simulator: a process a site on this machine; results are written below `out`.

    Raises
    ------
    DmlError
        If the training ended with an error.
    """
    folders = {name: str(folder.absolute()) for name, folder in sites.items()}
    with tempfile.TemporaryDirectory() as temporary:
        workspace, description = Path(temporary) / "workspace", Path(temporary) / "training.json"
        describe_training(description, params, task, settings, roles, out)
        write_json(workspace / "local" / "resources.json", {"format_version": 2, ALLOWED: allowed_classes()})
        job = make_job(f"{params.cohort}-{task}", settings.min_sites, folders, description)
        job.simulator_run(str(workspace), log_config="concise")
        ended = description.with_name(OUTCOME)
        outcome = read_json(ended) if ended.exists() else "the federation was not ended by its server"
    if outcome:
        raise DmlError(f"{outcome}. The log above has more")
