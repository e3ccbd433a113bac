# SPDX-License-Identifier: Apache-2.0
"""
Checking a request's signature (SDK-HMAC-SHA256) the way the gateway does.

Written from the description of the algorithm and not from our client's code, so that the
two can disagree; signing() is here for the self-test alone.
"""
import calendar
import hashlib
import hmac
import re
import time
from urllib.parse import quote, unquote

ALGORITHM = "SDK-HMAC-SHA256"
DATE = "%Y%m%dT%H%M%SZ"
SKEW_S = 15 * 60
UNSIGNED = "UNSIGNED-PAYLOAD"
# Headers that say on whose behalf a request acts: unsigned, anybody on the way could change them.
AUTHORITY = ("x-project-id", "x-domain-id", "x-security-token")
HEADER = re.compile(
    ALGORITHM + r" Access=(?P<ak>[^,\s]+), ?SignedHeaders=(?P<signed>[^,\s]+), ?"
    r"Signature=(?P<signature>[0-9a-f]{64})")


class Refused(Exception):
    """The signature does not hold.  str() is what the gateway tells, reason one word of ours."""

    def __init__(self, reason, text):
        super().__init__("Incorrect IAM authentication information: " + text)
        self.reason = reason


def encode(text):
    """Percent-encode as the algorithm wants: only A-Z a-z 0-9 - _ . ~ stay as they are."""
    return quote(text, safe="", errors="surrogateescape")


def decode(text):
    return unquote(text, errors="surrogateescape")


def canonical_path(raw):
    path = "/".join(encode(decode(part)) for part in raw.split("/"))
    return path if path.endswith("/") else path + "/"


def query_pairs(raw):
    """The decoded pairs of a query string, in the order they came; "+" is a plus."""
    pairs = []
    for part in raw.split("&") if raw else []:
        key, _, value = part.partition("=")
        pairs.append((decode(key), decode(value)))
    return pairs


def canonical_query(raw):
    return "&".join(f"{encode(k)}={encode(v)}" for k, v in sorted(query_pairs(raw)))


def canonical_request(method, raw_path, raw_query, headers, signed, payload_hash):
    """headers: dict, lower-case names; signed: names in the order in which they are signed."""
    lines = "".join(f"{name}:{headers.get(name, '').strip()}\n" for name in signed)
    return "\n".join((method, canonical_path(raw_path), canonical_query(raw_query), lines,
                      ";".join(signed), payload_hash))


def payload_hash(headers, body):
    """What the client says, if it says so, else the hash of the bytes."""
    return headers.get("x-sdk-content-sha256", "").strip() or hashlib.sha256(body).hexdigest()


def sign(sk, date, canonical):
    text = "\n".join((ALGORITHM, date,
                      hashlib.sha256(canonical.encode("utf-8", "surrogateescape")).hexdigest()))
    return hmac.new(sk.encode(), text.encode(), hashlib.sha256).hexdigest()


def signing(ak, sk, method, raw_path, raw_query, headers, body):
    """The Authorization value of a request whose headers (lower-case names) are all signed."""
    signed = sorted(n for n in headers if "_" not in n)
    canonical = canonical_request(method, raw_path, raw_query, headers, signed,
                                  payload_hash(headers, body))
    return (f"{ALGORITHM} Access={ak}, SignedHeaders={';'.join(signed)}, "
            f"Signature={sign(sk, headers['x-sdk-date'], canonical)}")


def check_date(date, now):
    try:
        when = calendar.timegm(time.strptime(date, DATE))
    except ValueError:
        raise Refused("date", f"header X-Sdk-Date is malformed: {date!r}") from None
    if abs(when - now) > SKEW_S:
        server = time.strftime(DATE, time.gmtime(now))
        raise Refused("skew", f"signature expired, signature time:{date},server time:{server}")


def check_token(credential, headers, now):
    token = headers.get("x-security-token")
    if credential.get("security_token") is None:
        if token is not None:
            raise Refused("token", "this ak has no security token")
        return
    if token != credential["security_token"]:
        raise Refused("token", "X-Security-Token is missing or not the one of this ak")
    if credential.get("expires_at") is not None and credential["expires_at"] <= now:
        raise Refused("expired", "the security token has expired")


def weaknesses(headers, signed):
    """What a careful client would have signed, or signed in another way."""
    found = []
    if "host" not in signed:
        found.append("header host is not signed")
    found += [f"header {n} is not signed" for n in AUTHORITY if n in headers and n not in signed]
    if list(signed) != sorted(signed) or any(n != n.lower() for n in signed):
        found.append("SignedHeaders are not in lower case and sorted")
    found += [f"header {n} has an underscore and is signed" for n in signed if "_" in n]
    return found


def check(request, credentials, now):
    """
    Whose key signed the request: the credential, and the weaknesses of the signature.
    request has method, raw_path, raw_query, headers (lower-case names) and body (bytes);
    credentials maps an AK to {sk, security_token?, expires_at?, ...}.
    """
    headers = request.headers
    value = headers.get("authorization")
    if value is None:
        raise Refused("missing", "the request is neither signed nor has it a token")
    m = HEADER.fullmatch(value)
    if m is None:
        raise Refused("malformed", "header Authorization is malformed")
    signed = m["signed"].split(";")
    if "x-sdk-date" not in headers or "x-sdk-date" not in signed:
        raise Refused("date", "header X-Sdk-Date is missing or not signed")
    if m["ak"] not in credentials:
        raise Refused("ak", f"the ak does not exist: {m['ak']}")
    credential = credentials[m["ak"]]
    check_date(headers["x-sdk-date"], now)

    said = headers.get("x-sdk-content-sha256", "").strip()
    if said and said != UNSIGNED and said != hashlib.sha256(request.body).hexdigest():
        raise Refused("payload", "X-Sdk-Content-Sha256 is not the hash of the body")
    missing = [n for n in signed if n not in headers]
    if missing:
        raise Refused("signature", "signed headers are missing: " + ";".join(missing))
    canonical = canonical_request(request.method, request.raw_path, request.raw_query, headers,
                                  signed, payload_hash(headers, request.body))
    if not hmac.compare_digest(sign(credential["sk"], headers["x-sdk-date"], canonical),
                               m["signature"]):
        raise Refused("signature", "verify aksk signature fail, canonicalRequest:"
                      + canonical.replace("\n", "|"))
    check_token(credential, headers, now)
    return credential, weaknesses(headers, signed)
