"""All interfaces.  To plug something into pop3gw, read this folder and nothing else.

Import them from here; ``mail``, ``accounts`` and ``server`` are where to read.
Every method says who calls it, when, and which of :mod:`gateway.errors` it may
fail with; any other failure is logged with its traceback and reaches the
client as ``[SYS/TEMP]``.
"""

from gateway.interfaces.accounts import (
    Challenge,
    IDirectory,
    IMechanism,
    INtlmAuthority,
    INtlmResponse,
    IOwnRetention,
    Proven,
)
from gateway.interfaces.mail import (
    Admit,
    Audit,
    HighWater,
    IBody,
    IDelivery,
    IHiddenMail,
    IHidingMaildrop,
    IIncoming,
    IMailboxAdmin,
    IMailboxes,
    IMaildrop,
    IQuickMaildrop,
    IRetentionStore,
    IStore,
)
from gateway.interfaces.server import (
    IAdmission,
    IDigestState,
    IExpireState,
    IForecastState,
    IHighWaterState,
    ILeader,
    ILoginState,
    IMailboxState,
    IProcesses,
    IRetentionOrders,
    IRetentionState,
    IState,
    IWarningState,
    Leave,
    Run,
)

__all__ = [
    "Admit",
    "Audit",
    "Challenge",
    "HighWater",
    "IAdmission",
    "IBody",
    "IDelivery",
    "IDigestState",
    "IDirectory",
    "IExpireState",
    "IForecastState",
    "IHiddenMail",
    "IHidingMaildrop",
    "IHighWaterState",
    "IIncoming",
    "ILeader",
    "ILoginState",
    "IMailboxAdmin",
    "IMailboxState",
    "IMailboxes",
    "IMaildrop",
    "IMechanism",
    "INtlmAuthority",
    "INtlmResponse",
    "IOwnRetention",
    "IProcesses",
    "IQuickMaildrop",
    "IRetentionOrders",
    "IRetentionState",
    "IRetentionStore",
    "IState",
    "IStore",
    "IWarningState",
    "Leave",
    "Proven",
    "Run",
]
