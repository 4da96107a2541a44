"""Where threads are kept: a file, or a PostgreSQL server."""

from __future__ import annotations

import re
from contextlib import AbstractContextManager
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from ..context import Environment
from ..errors import ConfigurationError
from ..tools.workspaces import data_folder

if TYPE_CHECKING:
    from ..storage.persistence import Persistence

__all__ = ["Place"]


class Place(NamedTuple):
    """A path, or an address that starts with ``postgresql://`` or ``postgres://``."""

    name: str

    @classmethod
    def default(cls) -> Place:
        """Return the file in the user's data folder."""
        return cls(str(data_folder() / "threads.db"))

    @classmethod
    def chosen(cls, named: str | None, env: Environment) -> Place:
        """Return the database that an option names, else the environment, else the default."""
        return cls(chosen) if (chosen := named or env.database) else cls.default()

    @property
    def is_server(self) -> bool:
        """Whether a server keeps the threads."""
        return self.name.startswith(("postgresql://", "postgres://"))

    @property
    def shown(self) -> str:
        """The name as it may be printed: without a password."""
        if not self.is_server:
            return self.name
        bare = re.sub(r"(?<=//)([^:@/]*):[^@]*@", r"\1@", self.name)
        return re.sub(r"([?&])password=[^&]*&?", r"\1", bare).rstrip("?&")

    @property
    def workspaces(self) -> Path:
        """The folder of the threads' workspaces: next to the file, or in the user's data folder."""
        if self.is_server:
            return data_folder() / f"{sha256(self.shown.encode()).hexdigest()[:16]}.workspaces"
        return Path(f"{self.name}.workspaces")

    def missing(self) -> bool:
        """Tell whether there is no file yet; a server is asked when it is opened."""
        return not self.is_server and not Path(self.name).exists()

    def open(self, encryption_key: str | None = None) -> AbstractContextManager[Persistence]:
        """Return the persistence, to be entered.

        Raises:
            ConfigurationError: If there is a key for a server, or one that has not the right form.
        """
        if self.is_server:
            if encryption_key is not None:
                raise ConfigurationError(
                    "an encryption key is for a database in a file, not for a PostgreSQL server. "
                    "Unset PLAN_EXECUTE_ENCRYPTION_KEY to use this server"
                )
            from ..storage.server import postgres_persistence

            return postgres_persistence(self.name)
        from ..storage.persistence import local_persistence

        return local_persistence(self.name, encryption_key=encryption_key)
