//! The two facts that we need of a certificate and that no TLS crate tells: when it ends, and by which hash it was
//! signed (RFC 5929 4.1). A walk over DER (X.690) that never leaves the bytes it was given.

use sha2::{Digest, Sha256, Sha384, Sha512};

pub(crate) struct Facts {
    /// Seconds since 1970 UTC.
    pub(crate) not_before_s: i64,
    /// Seconds since 1970 UTC.
    pub(crate) not_after_s: i64,
    signature: Hash,
}

#[derive(Clone, Copy)]
enum Hash {
    Sha256,
    Sha384,
    Sha512,
    /// A signature without a single hash (Ed25519): RFC 5929 leaves it undefined.
    None,
}

/// Tag, content and rest of the first element.
fn element(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = der.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (len, rest) = if first < 0x80 {
        (usize::from(first), rest)
    } else {
        let n = usize::from(first & 0x7f);
        if n == 0 || n > 4 || n > rest.len() {
            return None;
        }
        let (bytes, rest) = rest.split_at(n);
        (bytes.iter().fold(0usize, |len, b| (len << 8) | usize::from(*b)), rest)
    };
    (len <= rest.len()).then(|| (tag, &rest[..len], &rest[len..]))
}

fn expect(tag: u8, der: &[u8]) -> Option<(&[u8], &[u8])> {
    let (found, content, rest) = element(der)?;
    (found == tag).then_some((content, rest))
}

const SEQUENCE: u8 = 0x30;
const OID: u8 = 0x06;

/// Facts of a certificate in DER (RFC 5280 4.1).
pub(crate) fn facts(der: &[u8]) -> Option<Facts> {
    let (certificate, _) = expect(SEQUENCE, der)?;
    let (mut tbs, rest) = expect(SEQUENCE, certificate)?;
    let (algorithm, _) = expect(SEQUENCE, rest)?;
    let (oid, parameters) = expect(OID, algorithm)?;
    if let Some((0xa0, _, rest)) = element(tbs) {
        tbs = rest; // version
    }
    let (_, _, rest) = element(tbs)?; // serial number
    let (_, rest) = expect(SEQUENCE, rest)?; // signature algorithm
    let (_, rest) = expect(SEQUENCE, rest)?; // issuer
    let (validity, _) = expect(SEQUENCE, rest)?;
    let (tag, not_before, rest) = element(validity)?;
    let not_before_s = time(tag, not_before)?;
    let (tag, not_after, _) = element(rest)?;
    Some(Facts { not_before_s, not_after_s: time(tag, not_after)?, signature: hash_of(oid, parameters) })
}

fn hash_of(oid: &[u8], parameters: &[u8]) -> Hash {
    const PKCS1: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01];
    const ECDSA_SHA2: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03];
    const NIST_HASH: &[u8] = &[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02];
    match (oid.strip_prefix(PKCS1), oid.strip_prefix(ECDSA_SHA2)) {
        // RFC 5929 4.1: MD5 and SHA-1 count as SHA-256
        (Some([4 | 5 | 11]), _) | (_, Some([2])) => Hash::Sha256,
        (Some([12]), _) | (_, Some([3])) => Hash::Sha384,
        (Some([13]), _) | (_, Some([4])) => Hash::Sha512,
        // RSASSA-PSS: the hash is named in the parameters; its first OID of the NIST arc is the one
        (Some([10]), _) => {
            let at = parameters.windows(NIST_HASH.len()).position(|w| w == NIST_HASH);
            match at.and_then(|i| parameters.get(i + NIST_HASH.len())) {
                Some(1) => Hash::Sha256,
                Some(2) => Hash::Sha384,
                Some(3) => Hash::Sha512,
                _ => Hash::None,
            }
        }
        _ => Hash::None,
    }
}

/// UTCTime or GeneralizedTime as RFC 5280 4.1.2.5 allows them: seconds, and Z.
fn time(tag: u8, text: &[u8]) -> Option<i64> {
    let text = std::str::from_utf8(text).ok()?.strip_suffix('Z')?;
    let (year, rest) = match tag {
        0x17 => {
            let year: i32 = text.get(..2)?.parse().ok()?;
            (if year < 50 { 2000 + year } else { 1900 + year }, text.get(2..)?)
        }
        0x18 => (text.get(..4)?.parse().ok()?, text.get(4..)?),
        _ => return None,
    };
    if rest.len() != 10 || !rest.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let two = |at: usize| rest.get(at..at + 2).and_then(|t| t.parse::<u8>().ok());
    let date = time::Date::from_calendar_date(year, time::Month::try_from(two(0)?).ok()?, two(2)?).ok()?;
    let clock = time::Time::from_hms(two(4)?, two(6)?, two(8)?.min(59)).ok()?;
    Some(time::PrimitiveDateTime::new(date, clock).assume_utc().unix_timestamp())
}

impl Facts {
    /// `tls-server-end-point` of this certificate.
    pub(crate) fn end_point(&self, der: &[u8]) -> Option<Vec<u8>> {
        match self.signature {
            Hash::Sha256 => Some(Sha256::digest(der).to_vec()),
            Hash::Sha384 => Some(Sha384::digest(der).to_vec()),
            Hash::Sha512 => Some(Sha512::digest(der).to_vec()),
            Hash::None => None,
        }
    }
}

pub(crate) fn fuzz(data: &[u8]) {
    if let Some(facts) = facts(data) {
        let _ = facts.end_point(data);
    }
}
