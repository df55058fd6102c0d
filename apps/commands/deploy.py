"""`dipole deploy`: move a robot by a trained policy, in real time, within limits, and report."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dipole.apps.compose import run
from dipole.data.core.errors import ConfigError
from dipole.data.core.from_mapping import from_mapping
from dipole.deploy import LoopConfig, Robot
from dipole.deploy.inference.base import Inference
from dipole.deploy.inference.process import FromCheckpoint, ProcessInference
from dipole.deploy.inference.worker import ThreadInference
from dipole.deploy.loop.report_file import refusal_reported
from dipole.deploy.loop.run import RunConfig, ended_well, run_policy
from dipole.deploy.robots.registry import import_robots, make_robot

Config = dict[str, Any]
OF_A_CHECKPOINT = (
    "weights", "guidance_scale", "part", "inference", "device", "runtime", "threads", "seed",
    "solver",
)  # fmt: skip
OF_A_SERVER = ("token", "client", "openpi")


def main(argv: list[str]) -> int:
    return run("deploy", argv, deploy, sweeps=False)  # one robot, moved by one job


def deploy(config: Config) -> int:
    """Prepare, ask to be allowed, move, report. 0 where it moved, and was stopped as asked."""
    output = config["output"]
    if not isinstance(output, str) or not output:
        raise ConfigError(f"output={output!r}; it must be a folder's path")
    with refusal_reported(Path(output).expanduser()):
        return _deploy(config)


def _deploy(config: Config) -> int:
    for name in ("server", "module"):
        if not isinstance(config[name], str | None):
            raise ConfigError(f"{name}={config[name]!r}; it must be a text, or null")
    terms = RunConfig(
        LoopConfig.from_dict(config["deploy"]),
        config["seconds"],
        config["arm"],
        config["dry_run"],
        config["watchdog"],
        Path(config["output"]).expanduser(),
        config["record"],
    )
    if config["module"] is not None:
        if "module" not in config["overrides"]:
            raise ConfigError("module= names code to run: give it on the command line, not in YAML")
        import_robots(Path(config["module"]).expanduser())
    named = config["robot"]
    robot = make_robot(named["name"], named.get("options"), named.get("limits"))
    if (config["checkpoint"] is None) == (config["server"] is None):
        raise ConfigError(
            "give the policy: either checkpoint=RUN, to compute here, or server=ws://HOST:PORT"
        )
    _refuse_unused(config)
    return 0 if ended_well(run_policy(robot, lambda: _inference(config, robot), terms)) else 1


def _refuse_unused(config: Config) -> None:
    """Raise ConfigError where something is asked for that would do nothing."""
    if config["server"] is None:
        if names := _given(config, OF_A_SERVER):
            raise ConfigError(
                f"{names}: of the connection to a server, and checkpoint= computes here; leave it "
                "out, or give server=ws://HOST:PORT in place of checkpoint="
            )
        return
    set_in_files = [name for name in ("guidance_scale", "part") if config[name] is not None]
    if names := _given(config, OF_A_CHECKPOINT) or ", ".join(set_in_files):
        raise ConfigError(
            f"{names}: the server at {config['server']} draws the chunks; leave it out, or give it "
            "to `dipole serve` there"
        )


def _given(config: Config, names: Sequence[str]) -> str:
    """Which of these settings, or parts of them, the command line has; their values may be secret.

    names: At the top of the configuration.
    """
    given = config["overrides"]
    return ", ".join(key for key in given if key.partition(".")[0] in names)


def _inference(config: Config, robot: Robot) -> Inference:
    if config["server"] is not None:
        return _remote(config, robot)
    factory = FromCheckpoint.from_dict(config)
    if config["inference"] == "process":
        return ProcessInference(factory)
    if config["inference"] == "thread":
        return ThreadInference(*factory())
    raise ConfigError(f"inference={config['inference']}: process, or thread")


def _remote(config: Config, robot: Robot) -> Inference:
    from dipole.deploy.inference.remote import RemoteInference
    from dipole.deploy.wire.openpi import OpenpiTerms
    from dipole.deploy.wire.websocket import ClientConfig

    return RemoteInference(
        config["server"],
        config["token"],
        config=from_mapping(ClientConfig, config["client"], "client"),
        robot=robot.spec,
        openpi=from_mapping(OpenpiTerms, config["openpi"], "openpi"),
    )
