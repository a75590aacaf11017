"""pop3gw: a POP3 mail gateway on Twisted.

Start at ``docs/architecture.md``; an integrator needs only
:mod:`gateway.interfaces` and :class:`gateway.net.pop3_factory.POP3Factory`.
"""

__version__ = "0.1.0"
