"""The texts of status lines: sets, selected by profile and LANG.

Texts are constants.  They contain no user input, no host name and no exception text.
"""

from __future__ import annotations

from collections.abc import Mapping

ENGLISH = {
    "greeting": "POP3 server ready.",
    "ok": "Done.",
    # No full stop: nmap takes a line that ends with a dot for the end of the reply.
    "capabilities": "Capabilities follow",
    "mechanisms": "Mechanisms follow.",
    "languages": "Languages follow.",
    "language": "Texts are in English now.",
    "utf8": "UTF-8 mode is on.",
    "tls": "Begin TLS now.",
    "name": "Send the password.",
    "client": "The client is known now.",
    "bad_client": "The attributes of XCLIENT are not valid.",
    "opened": "The maildrop is open.",
    "listing": "Listing follows.",
    "message": "Message follows.",
    "marked": "Marked for removal.",
    "reset": "No message is marked.",
    "bye": "Goodbye.",
    "idle": "Idle for too long; closing.",
    "closing": "The server is closing this session.",
    "unknown": "Unknown command.",
    "empty": "An empty line is no command.",
    "too_long": "The line is too long.",
    "arguments": "Wrong number of arguments.",
    "not_ascii": "A command is printable ASCII.",
    "bad_name": "The name is not valid UTF-8 or has prohibited characters.",
    "before_login": "Log in first.",
    "after_login": "Not after login.",
    "no_user": "Send USER first.",
    "no_message": "No such message.",
    "bad_number": "A message number is made of digits and not zero.",
    "bad_lines": "The number of lines is made of digits.",
    "already_marked": "The message is marked for removal.",
    "no_tls": "TLS is not available here.",
    "tls_active": "TLS is already active.",
    "no_language": "No texts in that language.",
    "no_apop": "APOP is not supported.",
    "too_many_refused": "Too many refused commands; closing.",
    "base64": "Not valid base64.",
    "cancelled": "Authentication cancelled.",
    "credentials": "Wrong name or password.",
    "cleartext": "Use TLS before sending a password.",
    "mechanism": "No such mechanism here.",
    "mechanism_failed": "The response does not follow the mechanism.",
    "guesses": "Too many wrong passwords; try again later.",
    "sessions": "Too many sessions.",
    "too_soon": "Too soon after the last login; try again later.",
    "busy": "The maildrop is in use by another session.",
    "no_mailbox": "The mailbox does not exist; ask your administrator.",
    "elsewhere": "The mailbox is on another server; ask your administrator.",
    "unusable": "The mailbox cannot be used; ask your administrator.",
    "trouble": "Temporary trouble; try again later.",
    "gone": "Another program has removed the message.",
    "unreadable": "The message cannot be read; ask your administrator.",
    "unread": "The message could not be sent, so it is not deleted.",
    "needs_utf8": "The message needs UTF8 mode.",
    "not_removed": "Some marked messages were not removed.",
}

GERMAN = {
    "greeting": "POP3-Server bereit.",
    "ok": "Erledigt.",
    "capabilities": "Die Fähigkeiten folgen",
    "mechanisms": "Die Verfahren folgen.",
    "languages": "Die Sprachen folgen.",
    "language": "Texte sind jetzt auf Deutsch.",
    "utf8": "UTF-8-Modus ist an.",
    "tls": "TLS jetzt beginnen.",
    "name": "Bitte das Passwort senden.",
    "client": "Der Client ist jetzt bekannt.",
    "bad_client": "Die Attribute von XCLIENT sind nicht gültig.",
    "opened": "Das Postfach ist offen.",
    "listing": "Die Liste folgt.",
    "message": "Die Nachricht folgt.",
    "marked": "Zum Löschen vorgemerkt.",
    "reset": "Keine Nachricht ist vorgemerkt.",
    "bye": "Auf Wiedersehen.",
    "idle": "Zu lange untätig; Verbindung endet.",
    "closing": "Der Server beendet diese Sitzung.",
    "unknown": "Unbekannter Befehl.",
    "empty": "Eine leere Zeile ist kein Befehl.",
    "too_long": "Die Zeile ist zu lang.",
    "arguments": "Falsche Anzahl von Argumenten.",
    "not_ascii": "Ein Befehl besteht aus druckbarem ASCII.",
    "bad_name": "Der Name ist kein gültiges UTF-8 oder hat verbotene Zeichen.",
    "before_login": "Bitte zuerst anmelden.",
    "after_login": "Nicht nach der Anmeldung.",
    "no_user": "Bitte zuerst USER senden.",
    "no_message": "Keine solche Nachricht.",
    "bad_number": "Eine Nachrichtennummer besteht aus Ziffern und ist nicht null.",
    "bad_lines": "Die Zeilenzahl besteht aus Ziffern.",
    "already_marked": "Die Nachricht ist zum Löschen vorgemerkt.",
    "no_tls": "TLS ist hier nicht verfügbar.",
    "tls_active": "TLS ist schon aktiv.",
    "no_language": "Keine Texte in dieser Sprache.",
    "no_apop": "APOP wird nicht unterstützt.",
    "too_many_refused": "Zu viele abgelehnte Befehle; Verbindung endet.",
    "base64": "Kein gültiges Base64.",
    "cancelled": "Anmeldung abgebrochen.",
    "credentials": "Name oder Passwort ist falsch.",
    "cleartext": "Ein Passwort nur nach TLS senden.",
    "mechanism": "Dieses Verfahren gibt es hier nicht.",
    "mechanism_failed": "Die Antwort passt nicht zum Verfahren.",
    "guesses": "Zu viele falsche Passwörter; bitte später wieder versuchen.",
    "sessions": "Zu viele Sitzungen.",
    "too_soon": "Zu bald nach der letzten Anmeldung; bitte später wieder versuchen.",
    "busy": "Das Postfach ist in einer anderen Sitzung offen.",
    "no_mailbox": "Das Postfach gibt es nicht; bitte den Administrator fragen.",
    "elsewhere": "Das Postfach liegt auf einem anderen Server; bitte den Administrator fragen.",
    "unusable": "Das Postfach ist nicht nutzbar; bitte den Administrator fragen.",
    "trouble": "Vorübergehende Störung; bitte später wieder versuchen.",
    "gone": "Ein anderes Programm hat die Nachricht entfernt.",
    "unreadable": "Die Nachricht ist nicht lesbar; bitte den Administrator fragen.",
    "unread": "Die Nachricht konnte nicht gesendet werden und wird daher nicht gelöscht.",
    "needs_utf8": "Die Nachricht braucht den UTF8-Modus.",
    "not_removed": "Einige vorgemerkte Nachrichten wurden nicht entfernt.",
}

EXCHANGE = ENGLISH | {
    "greeting": "The Microsoft Exchange POP3 service is ready.",
    "opened": "User successfully logged on.",
    "credentials": "Logon failure: unknown user name or bad password.",
    "before_login": "Command is not valid in this state.",
    "after_login": "Command is not valid in this state.",
    "bye": "Microsoft Exchange Server POP3 server signing off.",
}

Texts = Mapping[str, bytes]


def _encoded(texts: Mapping[str, str]) -> Texts:
    return {key: text.encode("utf-8") for key, text in texts.items()}


SETS: Mapping[str, Texts] = {"neutral": _encoded(ENGLISH), "exchange": _encoded(EXCHANGE)}
"""The sets that a profile may name, until LANG is used."""

LANGUAGES: Mapping[str, tuple[str, Texts]] = {
    "en": ("English", SETS["neutral"]),
    "de": ("Deutsch", _encoded(GERMAN)),
}
"""The languages of LANG: tag, native name, texts (RFC 6856 section 3)."""
