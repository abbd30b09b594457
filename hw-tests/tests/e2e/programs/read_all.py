"""Reads a mailbox by imaplib and poplib, with TLS from the first byte and by STARTTLS/STLS: every subject must be there, in order.

Arguments: address, CA file, user, password, subjects with | between them, ports of imaps, imap, pop3s, pop3."""
import email
import imaplib
import poplib
import ssl
import sys

address, ca, user, password, subjects = sys.argv[1:6]
imaps, imap, pop3s, pop3 = map(int, sys.argv[6:10])
wanted = subjects.split("|")
tls = ssl.create_default_context(cafile=ca)


def subject(raw):
    return email.message_from_bytes(raw)["Subject"]


for implicit in (True, False):
    if implicit:
        box = imaplib.IMAP4_SSL(address, imaps, ssl_context=tls)
    else:
        box = imaplib.IMAP4(address, imap)
        box.starttls(tls)
    box.login(user, password)
    assert box.select("INBOX", readonly=True) == ("OK", [str(len(wanted)).encode()])
    found = [subject(box.fetch(str(n + 1), "(RFC822)")[1][0][1]) for n in range(len(wanted))]
    assert found == wanted, (found, wanted)
    box.logout()

for implicit in (True, False):
    if implicit:
        drop = poplib.POP3_SSL(address, pop3s, context=tls)
    else:
        drop = poplib.POP3(address, pop3)
        drop.stls(tls)
    drop.user(user)
    drop.pass_(password)
    found = [subject(b"\r\n".join(drop.retr(n + 1)[1])) for n in range(drop.stat()[0])]
    assert found == wanted, (found, wanted)
    drop.quit()
print("imaplib and poplib read:", ", ".join(wanted))
