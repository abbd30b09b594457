//! Cutting off signatures: below `-- ` (RFC 3676 4.3), and the last lines that telephones and mailers add.
//!
//! Contract: the text comes back shorter or as it was.

/// A longer line is somebody's own sentence.
const LINE_MAX_CHARS: usize = 60;

/// How added lines begin, in lower case.
const BEGINS: [&str; 16] = [
    "sent from my ",
    "sent from mail for ",
    "sent from outlook",
    "sent from yahoo",
    "sent from proton",
    "sent with proton",
    "sent via ",
    "get outlook for ",
    "sent from samsung",
    "sent from huawei",
    "获取 outlook",
    "取得 outlook",
    "下载 outlook",
    "发自我的",
    "發自我的",
    "发自网易",
];
/// How lines begin that are added only when they name a device, and how they must end then.
const BEGINS_WITH_DEVICE: [(&str, &[&str]); 6] = [
    ("发自", &[""]),
    ("發自", &[""]),
    ("来自", &[""]),
    ("來自", &[""]),
    ("从我的", &["发送", "寄出"]),
    ("從我的", &["傳送", "發送", "寄出"]),
];
const DEVICES: [&str; 18] = [
    "iphone", "ipad", "android", "huawei", "华为", "xiaomi", "小米", "redmi", "oppo", "vivo", "honor", "荣耀", "samsung", "三星",
    "galaxy", "手机", "outlook", "foxmail",
];

/// The text without its signature.
pub(super) fn cut(text: &str) -> &str {
    let mut text = &text[..marked(text)];
    loop {
        text = text.trim_end();
        let start = text.rfind('\n').map_or(0, |n| n + 1);
        if !is_added(text[start..].trim()) {
            return text;
        }
        text = &text[..start];
    }
}

/// Where the signature mark stands, or the end.
fn marked(text: &str) -> usize {
    let mut at = 0;
    // NetEase's box begins with a line of bars and ends with its own name.
    let mut box_start = None;
    for line in text.split_inclusive('\n') {
        let bare = line.trim_end_matches(['\n', '\r']);
        if bare == "-- " || bare == "--" {
            return at;
        }
        if bare.trim() == "| |" {
            box_start = box_start.or(Some(at));
        }
        if bare.contains("签名由") && bare.contains("网易邮箱大师") {
            return box_start.unwrap_or(at);
        }
        at += line.len();
    }
    text.len()
}

fn is_added(line: &str) -> bool {
    if line.is_empty() || line.chars().count() > LINE_MAX_CHARS {
        return false;
    }
    let lower = line.to_lowercase();
    let end = lower.trim_end_matches('。');
    let device = || DEVICES.iter().any(|d| lower.contains(d));
    BEGINS.iter().any(|b| lower.starts_with(b))
        || BEGINS_WITH_DEVICE.iter().any(|(b, ends)| lower.starts_with(b) && ends.iter().any(|e| end.ends_with(e)) && device())
}

#[cfg(test)]
mod tests {
    use super::cut;

    #[test]
    fn signatures_go_and_sentences_stay() {
        for (text, own) in [
            ("hello\n-- \nAnna\nSchool", "hello"),
            ("hello\n--\nAnna", "hello"),
            ("hello\n\nSent from my iPhone", "hello"),
            ("好的\n\n发自我的 iPhone\n", "好的"),
            ("好的\n发自我的华为手机", "好的"),
            ("好的\n從我的 iPhone 傳送", "好的"),
            ("好的\n来自 vivo 手机", "好的"),
            ("hi\n\nGet Outlook for iOS", "hi"),
            ("hi\n| |\n张三\n|\n|\n邮箱：z@163.example\n|\n签名由 网易邮箱大师 定制", "hi"),
            ("谢谢大家\n发自内心的感谢", "谢谢大家\n发自内心的感谢"),
            ("请把我的手机送来", "请把我的手机送来"),
            ("我的手机坏了", "我的手机坏了"),
            ("a -- b\n--- c", "a -- b\n--- c"),
            ("-- \nonly", ""),
        ] {
            assert_eq!(cut(text), own, "{text}");
        }
    }
}
