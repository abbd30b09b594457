//! Reading a list of accounts: bytes to typed lines. Pure.

use super::guard;
use crate::change::NewPassword;
use crate::error::Error;
use crate::normal;
use crate::types::{Language, Role, Services};
use std::borrow::Cow;
use twinpost_message::Address;

pub(crate) const LIST_MAX_BYTES: usize = 512 << 20;
pub(crate) const LINES_MAX: usize = 2_000_000;
const CELL_LIST_MAX: usize = 1000;

/// Column names, with what Chinese spreadsheets call them.
const COLUMNS: &[(&str, &[&str])] = &[
    ("address", &["address", "email", "地址", "邮箱", "邮箱地址"]),
    ("password", &["password", "密码"]),
    ("hash", &["hash", "password_hash"]),
    ("display_name", &["display_name", "name", "姓名"]),
    ("role", &["role", "角色"]),
    ("quota_bytes", &["quota_bytes", "容量"]),
    ("quota_messages", &["quota_messages", "邮件数"]),
    ("max_message_bytes", &["max_message_bytes"]),
    ("services", &["services", "服务"]),
    ("aliases", &["aliases", "别名"]),
    ("groups", &["groups", "群组"]),
    ("language", &["language", "语言"]),
    ("suspended", &["suspended", "停用"]),
];

pub(crate) struct List {
    pub lines: Vec<Line>,
    /// Name of the encoding that it was in.
    pub encoding: &'static str,
}

pub(crate) struct Line {
    /// In the file, from 1.
    pub number: u64,
    /// As written, for the report.
    pub shown: String,
    pub wish: Result<Wish, Error>,
}

/// What a line asks for; `None` leaves a value as it is.
#[derive(Default)]
pub(crate) struct Wish {
    pub address: Option<Address>,
    pub password: NewPassword,
    pub display_name: Option<String>,
    pub role: Option<Role>,
    pub language: Option<Language>,
    pub services: Option<Services>,
    pub quota_bytes: Option<Option<u64>>,
    pub quota_messages: Option<Option<u64>>,
    pub max_message_bytes: Option<Option<u64>>,
    pub aliases: Vec<Address>,
    pub groups: Vec<Address>,
    pub suspended: Option<bool>,
}

/// UTF-8, UTF-16 with its mark, or GB18030 (what spreadsheets in China write).
fn decode(data: &[u8]) -> Result<(Cow<'_, str>, &'static str), Error> {
    let unreadable = || Error::List("it is neither UTF-8 nor GB18030 text: save it as \"CSV UTF-8\"".to_owned());
    if let Some((encoding, mark)) = encoding_rs::Encoding::for_bom(data) {
        let text = encoding.decode_without_bom_handling_and_without_replacement(&data[mark..]).ok_or_else(unreadable)?;
        return Ok((text, encoding.name()));
    }
    if let Ok(text) = std::str::from_utf8(data) {
        return Ok((Cow::Borrowed(text), "UTF-8"));
    }
    let gb = encoding_rs::GB18030;
    let text = gb.decode_without_bom_handling_and_without_replacement(data).ok_or_else(unreadable)?;
    Ok((text, "GB18030"))
}

pub(crate) fn read(data: &[u8]) -> Result<List, Error> {
    if data.len() > LIST_MAX_BYTES {
        return Err(Error::List(format!("it is larger than {} MB: divide it", LIST_MAX_BYTES >> 20)));
    }
    let (text, encoding) = decode(data)?;
    let head = text.lines().next().unwrap_or_default();
    // Spreadsheets write the separator of their country.
    let most = |c: &char| head.matches(*c).count();
    let delimiter = [',', ';', '\t'].into_iter().rev().max_by_key(most).unwrap_or(',');
    let mut reader =
        csv::ReaderBuilder::new().delimiter(u8::try_from(delimiter).unwrap_or(b',')).flexible(true).from_reader(text.as_bytes());
    let broken = |e: &csv::Error| Error::List(e.to_string());
    let columns = columns(reader.headers().map_err(|e| broken(&e))?)?;
    let mut lines = Vec::new();
    let (mut counted_to, mut number) = (0, 1);
    for record in reader.records() {
        let record = record.map_err(|e| broken(&e))?;
        if record.iter().all(|cell| cell.trim().is_empty()) {
            continue;
        }
        if lines.len() == LINES_MAX {
            return Err(Error::List(format!("it has more than {LINES_MAX} lines: divide it")));
        }
        // The reader's own count stands before the line end of the record before and before blank lines.
        let begin =
            record.position().map_or(0, |p| usize::try_from(p.byte()).unwrap_or(usize::MAX)).clamp(counted_to, text.len());
        let blank = text.as_bytes()[begin..].iter().take_while(|b| matches!(b, b'\r' | b'\n')).count();
        number += text.as_bytes()[counted_to..begin + blank].iter().filter(|b| **b == b'\n').count() as u64;
        counted_to = begin + blank;
        let at = columns.iter().position(|c| *c == "address").unwrap_or(0);
        let shown = guard::plain(record.get(at).unwrap_or_default().trim()).chars().take(320).collect();
        lines.push(Line { number, shown, wish: wish(&columns, &record) });
    }
    Ok(List { lines, encoding })
}

fn columns(header: &csv::StringRecord) -> Result<Vec<&'static str>, Error> {
    let mut columns: Vec<&'static str> = Vec::new();
    for given in header {
        let given = given.trim();
        let known = COLUMNS.iter().find(|(_, names)| names.iter().any(|n| n.eq_ignore_ascii_case(given)));
        let Some((column, _)) = known else {
            let names: Vec<&str> = COLUMNS.iter().map(|c| c.0).collect();
            let shown: String = given.chars().take(60).collect();
            return Err(Error::List(format!("its first line names a column {shown:?}; known are {}", names.join(", "))));
        };
        if columns.contains(column) {
            return Err(Error::List(format!("its first line names the column {column} twice")));
        }
        columns.push(column);
    }
    if columns.contains(&"address") { Ok(columns) } else { Err(Error::List("its first line names no column address".to_owned())) }
}

fn wish(columns: &[&'static str], record: &csv::StringRecord) -> Result<Wish, Error> {
    let mut wish = Wish::default();
    if record.len() > columns.len() {
        let why = format!("it has {} cells and the first line names {} columns", record.len(), columns.len());
        return Err(Error::Value { what: "the line", why });
    }
    for (column, raw) in columns.iter().zip(record) {
        // A password is taken as it is written: no export has any.
        let cell = guard::plain(raw.trim());
        if cell.is_empty() {
            continue;
        }
        let both = || Error::Value { what: "the line", why: "it has a password and a hash: give one of them".to_owned() };
        match *column {
            "address" => wish.address = Some(normal::address(cell)?),
            // A password may begin or end with a space.
            "password" if wish.password == NewPassword::None => wish.password = NewPassword::Plain(raw.to_owned()),
            "hash" if wish.password == NewPassword::None => wish.password = NewPassword::Hash(cell.to_owned()),
            "password" | "hash" => return Err(both()),
            "display_name" => wish.display_name = Some(cell.to_owned()),
            "role" => wish.role = Some(named("role", cell)?),
            "language" => wish.language = Some(named("language", cell)?),
            "services" => wish.services = Some(named("services", cell)?),
            "quota_bytes" => wish.quota_bytes = Some(size("quota_bytes", cell)?),
            "quota_messages" => wish.quota_messages = Some(size("quota_messages", cell)?),
            "max_message_bytes" => wish.max_message_bytes = Some(size("max_message_bytes", cell)?),
            "aliases" => wish.aliases = addresses(cell)?,
            "groups" => wish.groups = addresses(cell)?,
            _ => wish.suspended = Some(yes(cell)?),
        }
    }
    if wish.address.is_none() {
        return Err(Error::Value { what: "the line", why: "its address is empty".to_owned() });
    }
    Ok(wish)
}

fn named<T: std::str::FromStr<Err = crate::types::UnknownName>>(what: &'static str, cell: &str) -> Result<T, Error> {
    cell.parse().map_err(|e: crate::types::UnknownName| Error::Value { what, why: e.to_string() })
}

/// `2G`, `2 GiB`, `500m`, `1048576`, `0` (no limit), `default`.
fn size(what: &'static str, cell: &str) -> Result<Option<u64>, Error> {
    if cell.eq_ignore_ascii_case("default") {
        return Ok(None);
    }
    let wrong = || Error::Value { what, why: format!("{cell:?} is no number such as 500M, 2G, 0 (no limit) or default") };
    // `GiB` as everywhere else here; `G` and `GB` as people write it.
    let plain = cell.trim_end_matches(['B', 'b']);
    let plain = plain.strip_suffix(['i', 'I']).unwrap_or(plain);
    let shift = match plain.chars().last().map(|c| c.to_ascii_uppercase()) {
        Some('K') => 10,
        Some('M') => 20,
        Some('G') => 30,
        Some('T') => 40,
        _ => 0,
    };
    let digits = if shift == 0 { plain } else { &plain[..plain.len() - 1] };
    let n: u64 = digits.trim().parse().map_err(|_| wrong())?;
    n.checked_mul(1 << shift).filter(|n| *n <= i64::MAX.unsigned_abs()).map(Some).ok_or_else(wrong)
}

fn yes(cell: &str) -> Result<bool, Error> {
    match cell.to_lowercase().as_str() {
        "yes" | "true" | "1" | "是" => Ok(true),
        "no" | "false" | "0" | "否" => Ok(false),
        _ => Err(Error::Value { what: "suspended", why: format!("{cell:?} is neither yes nor no") }),
    }
}

fn addresses(cell: &str) -> Result<Vec<Address>, Error> {
    let list: Vec<Address> =
        cell.split([' ', ',', ';', '|', '\n']).filter(|a| !a.is_empty()).map(normal::address).collect::<Result<_, _>>()?;
    if list.len() > CELL_LIST_MAX {
        return Err(Error::TooMany { what: "a cell", max: CELL_LIST_MAX, given: list.len() });
    }
    Ok(list)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses_of(data: &[u8]) -> Vec<String> {
        let list = read(data).unwrap_or_else(|e| panic!("{e}"));
        list.lines
            .iter()
            .map(|l| {
                l.wish
                    .as_ref()
                    .map_or_else(ToString::to_string, |w| w.address.as_ref().map_or_else(String::new, ToString::to_string))
            })
            .collect()
    }

    #[test]
    fn every_spreadsheet_is_read() {
        let text = "邮箱;姓名;密码\r\na@x.example;张三;geheim geheim\r\n\r\nb@x.example;\"李; 四\";\r\n";
        let utf16: Vec<u8> = [0xFF, 0xFE].into_iter().chain(text.encode_utf16().flat_map(u16::to_le_bytes)).collect();
        let bom: Vec<u8> = b"\xEF\xBB\xBF".iter().copied().chain(text.bytes()).collect();
        let gb = encoding_rs::GB18030.encode(text).0.into_owned();
        for (data, encoding) in [(text.as_bytes(), "UTF-8"), (&bom, "UTF-8"), (&utf16, "UTF-16LE"), (&gb, "GB18030")] {
            let list = read(data).unwrap_or_else(|e| panic!("{encoding}: {e}"));
            assert_eq!(list.encoding, encoding);
            let names: Vec<_> = list.lines.iter().map(|l| l.wish.as_ref().ok().and_then(|w| w.display_name.clone())).collect();
            assert_eq!(names, [Some("张三".to_owned()), Some("李; 四".to_owned())], "{encoding}");
            assert_eq!(list.lines[1].number, 4, "{encoding}: a blank line counts");
        }
        assert_eq!(addresses_of(b"address\na@x.example\n\"b\"@x.example\n").len(), 2);
    }

    #[test]
    fn what_is_no_list_is_refused_as_a_whole() {
        for (data, part) in [
            (&b"address,shoe_size\n"[..], "shoe_size"),
            (b"password\nx\n", "no column address"),
            (b"address,address\n", "twice"),
            (b"address\n\xff\xff\xff\n", "neither UTF-8"),
        ] {
            let error = read(data).err().map(|e| e.to_string()).unwrap_or_default();
            assert!(error.contains(part), "{error}");
        }
    }

    #[test]
    fn sizes_have_units() {
        for (cell, value) in [
            ("0", Some(0)),
            ("2G", Some(2 << 30)),
            ("500 m", Some(500 << 20)),
            ("10KB", Some(10240)),
            ("1 GiB", Some(1 << 30)),
            ("Default", None),
        ] {
            assert_eq!(size("quota", cell).ok(), Some(value), "{cell}");
        }
        for cell in ["-1", "G", "much", "99999999T", "1.5G", "字"] {
            assert!(size("quota", cell).is_err(), "{cell}");
        }
    }
}
