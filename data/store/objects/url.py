"""Where something lies in object storage, as a person writes it: s3://bucket/robot.zarr."""

from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from dipole.data.core.errors import DataError

WRITABLE = ("s3", "gs", "az")
SCHEMES = (*WRITABLE, "http", "https")


@dataclass(frozen=True)
class ObjectUrl:
    """A place in object storage.

    scheme: Of `SCHEMES`.
    bucket: Also a container (az), or host and port (http).
    key: The name within it, without slashes at its ends.
    """

    scheme: str
    bucket: str
    key: str

    @classmethod
    def parse(cls, text: str) -> "ObjectUrl":
        """Raises DataError for a text that is no such place, such as one without a bucket."""
        scheme, _, rest = text.partition("://")
        bucket, _, key = rest.partition("/")
        key = key.strip("/")
        if scheme not in SCHEMES or not bucket or not key:
            raise DataError(
                f"{text}: no place in object storage. Such places are s3://BUCKET/NAME, "
                "gs://BUCKET/NAME, az://CONTAINER/NAME and https://HOST/NAME"
            )
        if any(part in ("", ".", "..") for part in key.split("/")) or "?" in key or "#" in key:
            raise DataError(f"{text}: the name holds an empty part, '.', '..', '?' or '#'")
        return cls(scheme, bucket, key)

    @property
    def root(self) -> str:
        """The bucket, as an address."""
        return f"{self.scheme}://{self.bucket}"

    @property
    def name(self) -> str:
        """The last part."""
        return PurePosixPath(self.key).name

    @property
    def stem(self) -> str:
        """The last part without what follows its last dot."""
        return PurePosixPath(self.key).stem

    @property
    def suffix(self) -> str:
        """What follows the last dot, with it."""
        return PurePosixPath(self.key).suffix

    @property
    def parent(self) -> "ObjectUrl":
        """The place that this one is in; itself at the top of a bucket."""
        above, _, _ = self.key.rpartition("/")
        return self if not above else ObjectUrl(self.scheme, self.bucket, above)

    def __truediv__(self, name: str) -> "ObjectUrl":
        """A place within this one."""
        return ObjectUrl(self.scheme, self.bucket, f"{self.key}/{name}")

    def __str__(self) -> str:
        return f"{self.root}/{self.key}"


DatasetPath = Path | ObjectUrl


def is_url(text: str) -> bool:
    """Whether a text names a place in object storage."""
    return text.partition("://")[0] in SCHEMES and "://" in text
