"""What the workspace's one login may do: its entitlements, and the grants that it has in Unity Catalog.

All of it is said in the config file; nothing here can be granted.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from local.databricks.errors import ApiError
from local.databricks.workspace import object_id


@dataclass(frozen=True)
class Access:
    """Who the login is and what it has.

    ``catalogs``, ``schemas``, ``volumes`` and ``external_locations`` are what exists, each with the privileges that the
    login has on it. Names are full (``catalog.schema.volume``); an external location is named by its URL.
    """

    catalogs: dict[str, list[str]] = field(default_factory=dict)
    schemas: dict[str, list[str]] = field(default_factory=dict)
    volumes: dict[str, list[str]] = field(default_factory=dict)
    external_locations: dict[str, list[str]] = field(default_factory=dict)
    service_credentials: list[str] = field(default_factory=list)
    instance_profiles: list[str] = field(default_factory=list)
    entitlements: list[str] = field(default_factory=lambda: ["workspace-access", "allow-cluster-create"])
    folder_permissions: dict[str, str] = field(default_factory=dict)

    def me(self, user: str) -> dict[str, Any]:
        """The answer of scim/v2/Me."""
        entitlements = [{"value": name} for name in self.entitlements]
        return {
            "id": "1",
            "userName": user,
            "displayName": user,
            "active": True,
            "entitlements": entitlements,
        }

    def profiles(self) -> dict[str, Any]:
        """The answer of instance-profiles/list."""
        return {"instance_profiles": [{"instance_profile_arn": arn} for arn in self.instance_profiles]}

    def securable(self, kind: str, name: str) -> dict[str, Any]:
        """Describe a catalog, schema or credential.

        :raises ApiError: there is none, as Unity Catalog says it.
        """
        known: dict[str, Collection[str]] = {
            "catalogs": self.catalogs,
            "schemas": self.schemas,
            "volumes": self.volumes,
            "credentials": self.service_credentials,
        }
        if name not in known[kind]:
            one = kind.removesuffix("s").capitalize()
            raise ApiError("RESOURCE_DOES_NOT_EXIST", f"{one} '{name}' does not exist.")
        described = {"name": name.rpartition(".")[2], "full_name": name}
        return {**described, "purpose": "SERVICE"} if kind == "credentials" else described

    def locations(self) -> dict[str, Any]:
        """The answer of unity-catalog/external-locations."""
        found = [{"name": _location_name(url), "url": url} for url in self.external_locations]
        return {"external_locations": found}

    def effective(self, kind: str, name: str, user: str) -> dict[str, Any]:
        """The answer of unity-catalog/effective-permissions: what the login has, on this thing or by another.

        :raises ApiError: there is no such thing.
        """
        granted: Mapping[str, list[str]] = {
            "catalog": self.catalogs,
            "schema": self.schemas,
            "volume": self.volumes,
            "external_location": {_location_name(url): had for url, had in self.external_locations.items()},
        }.get(kind, {})
        if name not in granted:
            raise ApiError("RESOURCE_DOES_NOT_EXIST", f"{kind} '{name}' does not exist.")
        privileges = list(granted[name])
        if kind == "schema":
            privileges += self.catalogs.get(name.partition(".")[0], [])
        given = [{"privilege": each} for each in privileges]
        return {"privilege_assignments": [{"principal": user, "privileges": given}] if given else []}

    def permissions(self, folder: str, user: str) -> dict[str, Any]:
        """The answer of permissions/directories: what the login may do in the folder of a number; by default, all."""
        levels = {str(object_id(path)): level for path, level in self.folder_permissions.items()}
        level = levels.get(folder, "CAN_MANAGE")
        had = [{"permission_level": level, "inherited": True}]
        return {"access_control_list": [{"user_name": user, "all_permissions": had}]}


def _location_name(url: str) -> str:
    """The name of an external location; here it follows from its URL."""
    return url.removeprefix("s3://").strip("/").replace("/", "-").replace(".", "-")
