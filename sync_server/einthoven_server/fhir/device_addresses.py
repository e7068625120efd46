"""Device: read and search. It deliberately creates and changes none: a device enrols."""

from __future__ import annotations

import re
from typing import Final

from aiohttp import web

from einthoven_server.audit.trail import Trail
from einthoven_server.errors import ParameterRefused
from einthoven_server.fhir import answers
from einthoven_server.fhir.answers import encoded, entry
from einthoven_server.fhir.devices import DeviceStore, ShownDevice, device_resource
from einthoven_server.fhir.mapping import DEVICE_SYSTEM
from einthoven_server.fhir.result_search import is_token
from einthoven_server.fhir.search_parameters import Search, Value, parse_search
from einthoven_server.identity.access import Locator, access_of
from einthoven_server.identity.callers import Principal
from einthoven_server.identity.permissions import Resource

_DEVICE_ID: Final = re.compile(r"[A-Za-z0-9.-]{1,64}", re.ASCII)
_KIND: Final = "Device"
_STATUSES: Final = "http://hl7.org/fhir/device-status"


class DeviceAddresses:
    """Handlers of devices.

    Args:
        base_url: Of this service.
        devices: Devices.

    ``owner``: how the patient of one device is found.
    """

    def __init__(self, *, base_url: str, devices: DeviceStore) -> None:
        self._base_url = base_url
        self._devices = devices
        self.owner = Locator(self._owner, "no such Device")

    async def read(self, request: web.Request, principal: Principal, trail: Trail) -> web.Response:
        """GET /Device/{id}."""
        del principal
        answers.check_acceptable(request)
        answers.check_plain_read(request)
        device = await self._named(request)
        if device is None:
            raise self.owner.refused()
        trail.about(_KIND, device.device_id)
        shown = access_of(request).shown(Resource.DEVICE, device_resource(device))
        return answers.resource_answer(request, encoded(shown))

    async def _named(self, request: web.Request) -> ShownDevice | None:
        wanted = request.match_info["id"]
        return await self._devices.by_id(wanted if _DEVICE_ID.fullmatch(wanted) else "-")

    async def _owner(self, request: web.Request) -> str | None:
        device = await self._named(request)
        return None if device is None else device.patient_id

    async def search(self, request: web.Request, principal: Principal, trail: Trail) -> web.Response:
        """GET /Device?patient=..., POST /Device/_search."""
        del principal
        answers.check_acceptable(request)
        asked = parse_search("Device", await answers.query_of(request), self._base_url)
        of = [{str(value) for value in values} for values in asked.values("patient")]
        named = [{str(value) for value in values} for values in asked.values("_id")]
        if not of and not named:
            raise ParameterRefused("patient", "is missing", "give patient={id} or _id")
        trail.about(_KIND)
        access = access_of(request)
        found: list[ShownDevice] = []
        if of:
            for patient_id in sorted(await access.seen(sorted(set.intersection(*of)))):
                found += await self._devices.of_patient(patient_id)
        else:
            some = [await self._devices.by_id(one) for one in sorted(set.intersection(*named))]
            held = [one for one in some if one is not None]
            seen = await access.seen(sorted({one.patient_id for one in held}))
            found = [one for one in held if one.patient_id in seen]
        shown = [one for one in found if _device_fits(asked, one)]
        entries = [
            entry(self._base_url, _KIND, one.device_id, encoded(access.shown(Resource.DEVICE, device_resource(one))))
            for one in shown
        ]
        body = answers.page(self._base_url, asked, entries[: asked.count], total=len(shown), following=None)
        return answers.bundle_answer(body)


def _device_fits(asked: Search, device: ShownDevice) -> bool:
    return all(any(_one_fits(name, value, device) for value in values) for name, values in asked.criteria)


def _one_fits(name: str, value: Value, device: ShownDevice) -> bool:
    match name:
        case "_id":
            return value == device.device_id
        case "identifier":
            return is_token(value, DEVICE_SYSTEM, str(device.alias))
        case "status":
            return is_token(value, _STATUSES, "inactive" if device.revoked else "active")
        case _:
            return True
