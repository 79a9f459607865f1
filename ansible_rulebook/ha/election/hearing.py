"""The leader hears those who ask it to hand over, one after the other."""

from __future__ import annotations

from .election_log import ElectionLog
from .requests import Answer, Request
from .session import LockSession


class Hearing:
    """Decides which requests are granted, and answers all of them.

    :param worker_id: of this worker.
    :param log: says who has asked.
    """

    def __init__(self, worker_id: str, log: ElectionLog) -> None:
        self._worker_id = worker_id
        self._log = log

    async def hear(self, session: LockSession) -> Request | None:
        """Answer the next request, if one has come.

        :returns: the request, if it is granted.
        :raises SessionLost: outcome unknown.
        """
        request = session.take_request()
        if request is None:
            return None
        refusal = await self._refusal(session, request)
        await session.answer(Answer(request.pid, refusal))
        return None if refusal else request

    async def _refusal(self, session: LockSession, request: Request) -> str:
        """Why it is not granted; empty if it is."""
        role, is_permitted = await session.who_asks(request)
        asked = {"role": role, "by": request.by, "to": request.to or None}
        if not is_permitted:
            refusal = f"role {role} may not end the leader's session"
        elif request.to == self._worker_id:
            refusal = f"{request.to} leads already"
        elif not await session.others(request.to):
            refusal = f"no worker {request.to} is there".replace("  ", " ")
        else:
            self._log.info("Asked to hand over", request.reason, **asked)
            return ""
        self._log.warning("Refused to hand over", refusal, **asked)
        return refusal
