from twisted.application.service import ServiceMaker

pop3gw = ServiceMaker(
    "pop3gw",
    "gateway.app.tap",
    "A POP3 gateway to Maildir mail",
    "pop3gw",
)
