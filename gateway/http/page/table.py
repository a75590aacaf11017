"""The table of pages."""

from __future__ import annotations

from gateway.http.page import mail_pages, now_pages, overview_page, people_pages, retention_pages
from gateway.http.page.pages import Path

PATHS = (
    Path("GET", "/", overview_page.overview),
    Path("GET", "/sessions", now_pages.list_sessions),
    Path("GET", "/sessions/kick", now_pages.ask_kick),
    Path("POST", "/sessions/kick", now_pages.kick_session),
    Path("GET", "/throttle", now_pages.list_throttled),
    Path("POST", "/throttle/forgive", now_pages.forgive),
    Path("GET", "/mailboxes", mail_pages.mailboxes),
    Path("GET", "/mailbox", mail_pages.mailbox),
    Path("POST", "/mailbox/hide", mail_pages.hide_messages),
    Path("POST", "/mailbox/remove", mail_pages.remove_messages),
    Path("GET", "/hidden", retention_pages.hidden),
    Path("POST", "/hidden/restore", retention_pages.restore),
    Path("GET", "/retention", retention_pages.overview),
    Path("GET", "/retention/preview", retention_pages.preview),
    Path("GET", "/retention/release", retention_pages.ask_release),
    Path("POST", "/retention/release", retention_pages.release),
    Path("POST", "/retention/run", retention_pages.run),
    Path("GET", "/users", people_pages.users),
    Path("GET", "/deliveries", people_pages.deliveries),
    Path("GET", "/logins", people_pages.logins),
    Path("GET", "/audit", people_pages.audit),
)
"""Pages are GET, and change nothing; acts are POST."""
