"""What other people's SMS codecs make of our PDUs, and what they write themselves.

Reads one order a line, answers each with one JSON line. Orders:
  {"read": hex}                      -> [from python-gsmmodem, from smspdudecoder], each {} where that one does not know the kind
  {"write": text, "to": number, ...} -> [hex, ...] of python-gsmmodem
Run with both packages in PYTHONPATH (`hw-tests/need test` puts them into target/python).
"""

import json
import sys
import warnings
from datetime import timedelta
from io import StringIO

warnings.simplefilter("ignore")
from gsmmodem import pdu as gsmmodem  # noqa: E402
from smspdudecoder import fields  # noqa: E402


def unix(moment):
    return int(moment.timestamp())


def by_gsmmodem(octets):
    read = gsmmodem.decodeSmsPdu(octets)
    said = {"kind": read["type"], "number": read["number"], "centre": read["smsc"], "length": read["tpdu_length"]}
    for ours, theirs in (("text", "text"), ("reference", "reference"), ("status", "status")):
        if theirs in read:
            said[ours] = read[theirs]
    for stamp in ("time", "discharge"):
        if stamp in read:
            said[stamp] = unix(read[stamp])
    if isinstance(read.get("validity"), timedelta):
        said["validity"] = int(read["validity"].total_seconds())
    elif "validity" in read:
        said["until"] = unix(read["validity"])
    for element in read.get("udh", []):
        if isinstance(element, gsmmodem.Concatenation):
            said["part"] = [element.reference, element.parts, element.number]
    return said


def by_smspdudecoder(octets):
    # The type bits stand behind the service centre's address.
    kind = octets[1 + octets[0]] & 3
    if kind == 2:
        return {}
    data = StringIO(octets.hex())
    read = fields.SMSSubmit.decode(data) if kind == 1 else fields.SMSDeliver.decode(data)
    address = read["recipient" if kind == 1 else "sender"]
    said = {
        "kind": "SMS-SUBMIT" if kind == 1 else "SMS-DELIVER",
        "number": ("+" if address["toa"]["ton"] == "international" else "") + address["number"],
        "text": read["user_data"]["data"],
    }
    if isinstance(said["text"], bytes):
        said["text"] = said["text"].decode("latin-1")
    if kind == 1:
        said["reference"] = read["message-ref"]
        said["report"] = read["header"]["srr"]
        said["reject_duplicates"] = read["header"]["rd"]
    else:
        said["time"] = unix(read["scts"])
    for element in (read["user_data"]["header"] or {}).get("elements", []):
        if element["iei"] in (0, 8):
            part = element["data"]
            said["part"] = [part["reference"], part["parts_count"], part["part_number"]]
    return said


def answer(order):
    if "read" in order:
        octets = bytes.fromhex(order["read"])
        return [by_gsmmodem(bytearray(octets)), by_smspdudecoder(octets)]
    validity = order.get("validity")
    pdus = gsmmodem.encodeSmsSubmitPdu(
        order["to"],
        order["write"],
        reference=order["reference"],
        validity=None if validity is None else timedelta(seconds=validity),
        smsc=order.get("centre"),
        requestStatusReport=order["report"],
        rejectDuplicates=order["reject_duplicates"],
        sendFlash=order["flash"],
    )
    return [bytes(pdu.data).hex() for pdu in pdus]


for line in sys.stdin:
    print(json.dumps(answer(json.loads(line))))
