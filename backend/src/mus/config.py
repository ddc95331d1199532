"""Settings: typed, read once, frozen. Every one is an environment variable `MUS_<NAME>`."""

from __future__ import annotations

import ipaddress
import os
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal
from urllib.parse import urlsplit

# Plugins of it, of which mus has none, are looked for in the metadata of every package: 7 ms of each start.
os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator

from mus import broker_address
from mus.data_folder import absolute, default_data_dir
from mus.errors import ConfigurationError
from mus.put_off import put_off
from mus.root_map import RootMap, parsed_root_map

# Settings from a command line, which mus reads itself: half a MiB.
put_off("argparse", "Namespace")
put_off(
    "pydantic_settings.sources.providers.cli",
    *("CLI_SUPPRESS", "CliDualFlag", "CliExplicitFlag", "CliImplicitFlag", "CliMutuallyExclusiveGroup"),
    *("CliPositionalArg", "CliSettingsSource", "CliSubCommand", "CliSuppress", "CliToggleFlag"),
    *("CliUnknownArgs", "CliVariadicArg", "get_subcommand"),
)
from pydantic_settings import BaseSettings, SettingsConfigDict  # noqa: E402

if TYPE_CHECKING:
    from sqlalchemy import URL


#: What may follow the `?` of a PostgreSQL's address; the driver stumbles over anything else.
_POSTGRESQL_OPTIONS = {"host", "port", "ssl"}


def _check_postgresql(address: str) -> None:
    from sqlalchemy import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        url = make_url(address)
    except (ArgumentError, ValueError):
        raise ValueError(
            "is no address like postgresql+asyncpg://user:password@host:5432/database "
            "(write a sign like @ or / in the password as %40 or %2F)"
        ) from None
    if not url.database:
        raise ValueError("must name the database: postgresql+asyncpg://user:password@host:5432/database")
    if "sslmode" in url.query:
        raise ValueError("takes ?ssl=require (or verify-full) where other programs take sslmode")
    if strange := sorted(set(url.query) - _POSTGRESQL_OPTIONS):
        raise ValueError(f"knows no ?{strange[0]}=, only {', '.join(sorted(_POSTGRESQL_OPTIONS))}")


class Settings(BaseSettings):
    """Everything that can be set from outside. Names of durations end in their unit."""

    model_config = SettingsConfigDict(env_prefix="MUS_", frozen=True, extra="ignore", hide_input_in_errors=True)

    music_dir: Path | None = None
    #: Where the libraries' roots are on this machine, if elsewhere than where the database has them; see `roots`.
    root_map: str = ""
    data_dir: Path = Field(default_factory=lambda: Path(default_data_dir()))
    #: These two may have passwords in them: not for messages.
    dragonfly_url: str | None = Field(default=None, repr=False)
    database_url: str | None = Field(default=None, repr=False)
    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535)] = 8780
    api_token: SecretStr | None = None
    log_level: str = "INFO"
    #: How log lines are written: for people, or one JSON object a line.
    log_format: Literal["console", "json"] = "console"

    #: Name of the queue on the broker. Braces keep its keys in one DragonflyDB hash slot (DESIGN §3).
    queue_name: str = "{mus}"

    beat_seconds: Annotated[float, Field(gt=0)] = 5.0
    dead_after_seconds: Annotated[float, Field(gt=0)] = 20.0
    reconcile_seconds: Annotated[float, Field(gt=0)] = 5.0
    #: After SIGTERM, how long running jobs may take to finish before they are handed back.
    drain_seconds: Annotated[float, Field(ge=0)] = 20.0
    #: How long one file may occupy a reader without getting on before the reader is ended and the file set aside.
    file_timeout_seconds: Annotated[float, Field(gt=0)] = 60.0
    reader_processes: Annotated[int, Field(ge=1, le=64)] = Field(
        default_factory=lambda: min(os.cpu_count() or 1, 64)
    )

    #: What is found out by decoding a file's whole sound; what is off is not computed. With all three off nothing
    #: is decoded.
    analyse_loudness: bool = True
    analyse_integrity: bool = True
    analyse_waveform: bool = True

    #: A file is read when its size and mtime stood still this long: much longer while somebody has it open for
    #: writing, less when nobody has. On network file systems it is 3 s at least.
    settle_seconds: Annotated[float, Field(gt=0)] = 0.25
    #: How often a quick scan runs by itself, as a crontab in UTC.
    scan_schedule: str = "23 * * * *"

    #: Called (POST, signed as standardwebhooks.com says) when a job fails and an admin must act.
    admin_webhook_url: str | None = None
    #: Signs the calls: any text, or `whsec_` and base64.
    admin_webhook_secret: SecretStr | None = None
    #: Addresses of proxies, comma-separated, that may say who the caller is, and whether by https
    #: (`X-Forwarded-For`, `X-Forwarded-Proto`).
    trusted_proxies: str = ""

    #: The version in which ID3v2 tags are written. 2.4 is what most programs write and all read today; it alone
    #: has lists of values and full dates. 2.3 is for players that are older than 2010.
    id3_version: Annotated[int, Field(ge=3, le=4)] = 4
    #: Largest file that can be uploaded.
    max_upload_mb: Annotated[int, Field(ge=1)] = 2048
    #: Room for files that were transcoded for players.
    transcode_cache_mb: Annotated[int, Field(ge=64)] = 1024
    #: What separates several names in a tag, and which articles do not count in sorting, with blanks between them;
    #: None is what `library.reading_rules` takes for it.
    tag_separators: str | None = None
    sort_articles: str | None = None

    guard_min_tracks: Annotated[int, Field(ge=1)] = 50
    guard_fraction: Annotated[float, Field(gt=0, le=1)] = 0.5

    @field_validator("music_dir", "data_dir", mode="after")
    @classmethod
    def _absolute(cls, value: Path | None) -> Path | None:
        return None if value is None else Path(absolute(value))

    @field_validator("api_token")
    @classmethod
    def _as_it_can_be_sent(cls, value: SecretStr | None) -> SecretStr | None:
        # Blanks at a header's ends are cut off: with them in the token nobody could come in.
        token = value.get_secret_value().strip() if value else ""
        return SecretStr(token) if token else None

    @field_validator("root_map")
    @classmethod
    def _pairs_of_folders(cls, value: str) -> str:
        parsed_root_map(value)
        return value

    @field_validator("dragonfly_url")
    @classmethod
    def _broker_scheme(cls, value: str | None) -> str | None:
        if value is None or value == "":
            return None
        broker_address.check(value)
        return value

    @field_validator("scan_schedule")
    @classmethod
    def _five_fields(cls, value: str) -> str:
        from crontab import CronTab

        try:
            comes = CronTab(value).next(default_utc=True) is not None
        except ValueError as error:
            raise ValueError(f"is no crontab of five fields: {error}") from None
        if not comes:
            raise ValueError(f"{value!r} never comes")
        return value

    @field_validator("database_url")
    @classmethod
    def _database_scheme(cls, value: str | None) -> str | None:
        if value is None or value == "":
            return None
        if not value.startswith(("sqlite+aiosqlite://", "postgresql+asyncpg://")):
            raise ValueError("must start with sqlite+aiosqlite:// or postgresql+asyncpg://")
        if value.startswith("postgresql"):
            _check_postgresql(value)
        return value

    @field_validator("admin_webhook_url")
    @classmethod
    def _webhook_scheme(cls, value: str | None) -> str | None:
        if value is None or value == "":
            return None
        parts = urlsplit(value)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise ValueError("must be an address that starts with http:// or https://")
        return value

    @model_validator(mode="after")
    def _webhook_is_signed(self) -> Settings:
        secret = self.admin_webhook_secret.get_secret_value() if self.admin_webhook_secret else ""
        if self.admin_webhook_url and not secret:
            raise ValueError("MUS_ADMIN_WEBHOOK_URL needs MUS_ADMIN_WEBHOOK_SECRET, which signs the calls")
        return self

    @model_validator(mode="after")
    def _folders_apart(self) -> Settings:
        if self.music_dir is not None:
            here = Path(os.fsdecode(self.roots.here(os.fsencode(self.music_dir))))
            music, data = here.resolve(), self.data_dir.resolve()
            if music == data or music in data.parents or data in music.parents:
                raise ValueError(
                    f"the data folder {str(self.data_dir)!r} and the music folder {str(self.music_dir)!r} "
                    "must not lie inside each other"
                )
        return self

    @model_validator(mode="after")
    def _token_beyond_loopback(self) -> Settings:
        token = self.api_token.get_secret_value() if self.api_token else ""
        if not self.is_loopback and not token:
            raise ValueError(
                f"listening on {self.host} lets other machines in: set MUS_API_TOKEN first, or use 127.0.0.1"
            )
        return self

    @cached_property
    def is_loopback(self) -> bool:
        """Whether the API's address can be reached from this machine only."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    @property
    def roots(self) -> RootMap:
        """`MUS_ROOT_MAP`, read."""
        return parsed_root_map(self.root_map)

    @property
    def sqlalchemy_url(self) -> URL:
        """The database's address: `MUS_DATABASE_URL`, or SQLite in the data folder, whatever that is called."""
        from sqlalchemy import URL, make_url  # not for those who only want a port

        if self.database_url:
            return make_url(self.database_url)
        return URL.create("sqlite+aiosqlite", database=str(self.data_dir / "mus.db"))

    @property
    def aspects(self) -> frozenset[str]:
        """Which of `library.listening.Aspect` are on, by name."""
        switches = {
            "loudness": self.analyse_loudness,
            "integrity": self.analyse_integrity,
            "waveform": self.analyse_waveform,
        }
        return frozenset(name for name, is_on in switches.items() if is_on)

    @property
    def thumbnails_dir(self) -> Path:
        return self.data_dir / "thumbnails"

    @property
    def transcoded_dir(self) -> Path:
        return self.data_dir / "transcoded"


def load_settings(**overrides: Any) -> Settings:
    """Read the settings once; arguments that are not None win over the environment.

    Raises ConfigurationError with one line that names the setting.
    """
    given = {name: value for name, value in overrides.items() if value is not None}
    try:
        return Settings(**given)
    except ValidationError as invalid:
        first = invalid.errors()[0]
        name = f"MUS_{'_'.join(str(part) for part in first['loc']).upper()}: " if first["loc"] else ""
        raise ConfigurationError(name + first["msg"].removeprefix("Value error, ")) from None
