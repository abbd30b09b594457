//! Septets in octets: the packing of 3GPP TS 23.038 6.1.2.
//!
//! Contract: the first septet stands in the lowest bits. `fill` bits (0 to 6) before it make the text after a user data header
//! begin on a septet boundary (TS 23.040 9.2.3.24). Packing fails only for want of room, unpacking never.

use heapless::Vec;

/// Carriage return of the default alphabet, the padding of TS 23.038 6.1.2.3.1.
pub const CR: u8 = 0x0D;

/// The output has no room for all septets. What fitted was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

/// Bits between a header of `header_octets` octets (with its length octet) and the first septet boundary behind it.
#[must_use]
pub const fn fill_bits(header_octets: usize) -> u8 {
    // TS 23.040 9.2.3.24: fill bits up to the next multiple of 7.
    ((7 - header_octets * 8 % 7) % 7) as u8
}

/// Appends septets to octets after `fill` zero bits; spare bits of the last octet are zero.
///
/// # Errors
/// `Full` when the vector ends before the septets do.
pub fn pack<const N: usize>(septets: impl IntoIterator<Item = u8>, fill: u8, out: &mut Vec<u8, N>) -> Result<(), Full> {
    let mut packer = Packer::new(fill);
    for septet in septets {
        packer.push(septet, out)?;
    }
    packer.finish(out)
}

/// Packs septet by septet.
pub(crate) struct Packer {
    held: u32,
    bits: u32,
}

impl Packer {
    pub(crate) fn new(fill: u8) -> Self {
        Self { held: 0, bits: u32::from(fill % 7) }
    }

    #[inline]
    pub(crate) fn push<const N: usize>(&mut self, septet: u8, out: &mut Vec<u8, N>) -> Result<(), Full> {
        self.held |= u32::from(septet & 0x7F) << self.bits;
        self.bits += 7;
        if self.bits >= 8 {
            out.push(self.held as u8).map_err(|_| Full)?;
            self.held >>= 8;
            self.bits -= 8;
        }
        Ok(())
    }

    pub(crate) fn finish<const N: usize>(self, out: &mut Vec<u8, N>) -> Result<(), Full> {
        if self.bits > 0 { out.push(self.held as u8).map_err(|_| Full) } else { Ok(()) }
    }
}

/// Packs as a network does that gives no count of septets (USSD, cell broadcast): seven spare bits become a carriage return, so that
/// they are not read as `@`; and a text that ends with one on an octet boundary gets a second.
///
/// # Errors
/// `Full` when the vector ends before the septets do.
// TS 23.038 6.1.2.3.1
pub fn pack_padded<const N: usize>(septets: &[u8], out: &mut Vec<u8, N>) -> Result<(), Full> {
    let padding = match (septets.len() % 8, septets.last()) {
        (7, _) | (0, Some(&CR)) => Some(CR),
        _ => None,
    };
    pack(septets.iter().copied().chain(padding), 0, out)
}

/// Septets of packed octets whose count is not given; the padding of `pack_padded` is taken off.
pub fn unpack_padded(octets: &[u8]) -> impl Iterator<Item = u8> + '_ {
    let all = octets.len() * 8 / 7;
    let septet = |at: usize| unpack(octets, 0, all).nth(at);
    // TS 23.038 6.1.2.3.1: a carriage return in the last septet of full octets is padding; so is the second of two.
    let padded = all > 0 && octets.len().is_multiple_of(7) && septet(all - 1) == Some(CR);
    let doubled = all > 1 && octets.len() % 7 == 1 && septet(all - 1) == Some(CR) && septet(all - 2) == Some(CR);
    unpack(octets, 0, all - usize::from(padded || doubled))
}

/// The first `count` septets behind `fill` bits; fewer when the octets end before.
#[must_use]
pub fn unpack(octets: &[u8], fill: u8, count: usize) -> Septets<'_> {
    let mut septets = Septets { octets: octets.iter(), held: 0, bits: 0, left: count };
    let fill = u32::from(fill % 7);
    if fill > 0
        && let Some(&octet) = septets.octets.next()
    {
        septets.held = u32::from(octet) >> fill;
        septets.bits = 8 - fill;
    }
    septets
}

/// Iterator of `unpack`.
#[derive(Clone, Debug)]
pub struct Septets<'a> {
    octets: core::slice::Iter<'a, u8>,
    held: u32,
    bits: u32,
    left: usize,
}

impl Septets<'_> {
    /// Septets that are still to come.
    #[must_use]
    pub fn len_left(&self) -> usize {
        self.left.min((self.octets.len() * 8 + self.bits as usize) / 7)
    }
}

impl Iterator for Septets<'_> {
    type Item = u8;

    fn next(&mut self) -> Option<u8> {
        if self.left == 0 {
            return None;
        }
        if self.bits < 7 {
            let Some(&octet) = self.octets.next() else {
                self.left = 0;
                return None;
            };
            self.held |= u32::from(octet) << self.bits;
            self.bits += 8;
        }
        let septet = (self.held & 0x7F) as u8;
        self.held >>= 7;
        self.bits -= 7;
        self.left -= 1;
        Some(septet)
    }
}
