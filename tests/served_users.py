"""Users of a test's server: whoever says who they are is believed, by their key."""

from typing import Any

from langgraph_sdk import Auth

auth = Auth()


@auth.authenticate
async def authenticate(headers: dict[bytes, bytes]) -> Any:
    """Name the user by the key of the request."""
    key = headers.get(b"x-user-key")
    if not key:
        raise Auth.exceptions.HTTPException(status_code=401, detail="no key")
    return {"identity": key.decode(), "is_authenticated": True}
