"""What training on 10,000 hours of robot data with 64 GPUs asks of disk, network and processors.

    python benchmarks/scale.py                                  # the tables of docs/scale.md
    python benchmarks/scale.py --gpus 8 --hours 500 --cameras 2

Arithmetic alone: nothing is measured here. What was measured, and what is assumed, is said beside
each number in docs/scale.md; change what is otherwise with you.
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, fields

GIGA = 1e9


@dataclass(frozen=True)
class Encoding:
    """How pictures are stored. size: Bytes of one. decode: Seconds of a core for one. area: Of what
    the network sees, relative to 224 x 224 pixels."""

    name: str
    size: float
    decode: float
    area: float


# Sizes and times: four videos of a real humanoid (480 x 640, 30 Hz), one core of an Intel Xeon.
ENCODINGS = (
    Encoding("480×640, AV1, every 2nd a key frame", 9_463, 2.38e-3, 5.0),
    Encoding("480×640, JPEG 90", 44_700, 2.11e-3, 5.0),
    Encoding("240×320, JPEG 90", 17_550, 0.45e-3, 1.24),
    Encoding("168×224, JPEG 90", 10_670, 0.29e-3, 0.61),
    Encoding("96×128, JPEG 90", 4_830, 0.26e-3, 0.2),
)


@dataclass(frozen=True)
class Setting:
    """What is asked for, and with what.

    hours, fps, cameras: Of the data. frames: Observed ones of a window.
    gpus, gpus_per_node: Machines. flops: Of one GPU in bf16, at its best. mfu: The share of it that
    training reaches. cores: Of a machine that decode. nic: Bytes a second of a machine's network.
    batch: Windows of one GPU. encoder_flops: Of ResNet-18, forward, 224 x 224 pixels.
    head_flops: Of the published U-Net, forward. parameters: Of the policy.
    price: Dollars of a gigabyte and month in an object store.
    """

    hours: float = 10_000
    fps: float = 30
    cameras: int = 4
    frames: int = 2
    gpus: int = 64
    gpus_per_node: int = 8
    flops: float = 989e12
    mfu: float = 0.35
    cores: int = 96
    nic: float = 50e9
    batch: int = 64
    encoder_flops: float = 3.6e9
    head_flops: float = 2.36e9
    parameters: float = 307e6
    price: float = 0.023

    @property
    def windows(self) -> float:
        """Of the data: one at each frame of the robot's state."""
        return self.hours * 3600 * self.fps

    @property
    def pictures(self) -> float:
        return self.windows * self.cameras

    def window_flops(self, encoding: Encoding) -> float:
        """Of a training step, a window: forward, and twice that backward."""
        seen = self.frames * self.cameras * self.encoder_flops * encoding.area
        return 3 * (seen + self.head_flops)

    def rate(self, encoding: Encoding) -> float:
        """Windows a second that all GPUs compute."""
        return self.gpus * self.flops * self.mfu / self.window_flops(encoding)

    def all_reduce(self) -> float:
        """Seconds to add up gradients in fp32 between machines, at the network's full rate."""
        nodes = self.gpus / self.gpus_per_node
        return 0.0 if nodes <= 1 else 2 * (nodes - 1) / nodes * 4 * self.parameters / self.nic


def stored(setting: Setting) -> list[str]:
    rows = ["| stored as | a picture | all | a month |", "|---|---|---|---|"]
    for each in ENCODINGS:
        total = each.size * setting.pictures
        cost = total / GIGA * setting.price
        rows.append(
            f"| {each.name} | {each.size / 1e3:.1f} kB | {total / 1e12:.1f} TB | ${cost:,.0f} |"
        )
    return rows


def needed(setting: Setting) -> list[str]:
    rows = [
        "| stored as | windows/s | an epoch | bytes/s a machine | cores a machine that decode | "
        "a step | adding gradients |",
        "|---|---|---|---|---|---|---|",
    ]
    nodes = max(1.0, setting.gpus / setting.gpus_per_node)
    for each in ENCODINGS:
        rate = setting.rate(each)
        pictures = rate * setting.frames * setting.cameras / nodes
        rows.append(
            f"| {each.name} | {rate:,.0f} | {setting.windows / rate / 3600:.1f} h | "
            f"{pictures * each.size / GIGA:.2f} GB/s | {pictures * each.decode:,.0f} of "
            f"{setting.cores} | {1e3 * setting.batch * setting.gpus / rate:.0f} ms | "
            f"{1e3 * setting.all_reduce():.0f} ms |"
        )
    return rows


# Bytes of a parameter in fp32: itself, its gradient, its average, and AdamW's two moments.
HELD = 4 * 5


def held(setting: Setting) -> list[str]:
    """Of policies of other sizes, without activations; 2 % of the parameters are in no unit, and a
    unit is 2 %, of which two are gathered at once, with the gradient of one."""
    rows = [
        "| parameters | a GPU, `sharding=none` | a GPU, `sharding=full` | sent a step, `none` | "
        "`full`, fp32 | `full`, bf16 |",
        "|---|---|---|---|---|---|",
    ]
    gpus = setting.gpus
    for millions in (307, 1_000, 3_000, 10_000, 30_000):
        count = millions * 1e6
        gathered = 0.02 * count * (4 + 4) + 0.02 * count * (2 * 4 + 4)
        share = (gpus - 1) / gpus
        sent = [2 * 4 * share, (4 + 4 + 4) * share, (2 + 2 + 4) * share]
        rows.append(
            f"| {count / 1e9:g} billion | {HELD * count / GIGA:.1f} GB | "
            f"{(HELD * count / gpus + gathered) / GIGA:.1f} GB | "
            + " | ".join(f"{each * count / GIGA:.1f} GB" for each in sent)
            + " |"
        )
    return rows


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    for each in fields(Setting):
        kind = int if each.type in (int, "int") else float
        parser.add_argument(f"--{each.name.replace('_', '-')}", type=kind, default=each.default)
    setting = Setting(**vars(parser.parse_args(arguments)))
    print("\n".join([*stored(setting), "", *needed(setting), "", *held(setting)]))


if __name__ == "__main__":
    main()
