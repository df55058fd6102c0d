"""`dipole deploy`: move a robot by a trained policy, in real time, within limits, and report."""

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


def main(argv: list[str]) -> int:
    return run("deploy", argv, deploy, sweeps=False)  # one robot, moved by one job


def deploy(config: Config) -> int:
    """Prepare, ask to be allowed, move, report. 0 where it moved, and was stopped as asked."""
    with refusal_reported(Path(config["output"]).expanduser()):
        return _deploy(config)


def _deploy(config: Config) -> int:
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
    if config["server"] is not None:
        _refuse_settings_of_the_server(config)
    return 0 if ended_well(run_policy(robot, lambda: _inference(config, robot), terms)) else 1


def _refuse_settings_of_the_server(config: Config) -> None:
    """Raise ConfigError where something is asked for that the server decides."""
    for name in ("guidance_scale", "part"):
        if config[name] is not None:
            raise ConfigError(
                f"{name}={config[name]}: the server at {config['server']} draws the chunks; give "
                "it to `dipole serve` there"
            )


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
