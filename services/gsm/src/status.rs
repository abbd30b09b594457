//! What became of a message: TP-ST of a status report (3GPP TS 23.040 9.2.3.15).
//!
//! Contract: every octet has a class and a sentence in English and Chinese. Nothing fails.

/// TP-ST.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Status(pub u8);

/// What a TP-ST means for the sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum StatusClass {
    /// The message is with the recipient (or replaced, or forwarded without confirmation).
    Done,
    /// Not yet; the service centre goes on trying, another report follows.
    Trying,
    /// It failed for good; sending it again does not help.
    Permanent,
    /// It failed, and the service centre gave up; another attempt may help.
    GaveUp,
}

impl Status {
    /// Its class.
    #[must_use]
    pub const fn class(self) -> StatusClass {
        match self.0 {
            0x00..=0x1F => StatusClass::Done,
            0x20..=0x3F => StatusClass::Trying,
            0x40..=0x5F => StatusClass::Permanent,
            // TS 23.040 9.2.3.15: a reserved value above is read as a service rejected: the service centre makes no more attempts.
            _ => StatusClass::GaveUp,
        }
    }

    /// Whether a handset has it: only 0x00 says so for sure.
    #[must_use]
    pub const fn received(self) -> bool {
        self.0 == 0
    }

    /// A sentence in English.
    #[must_use]
    pub const fn en(self) -> &'static str {
        self.sentences().0
    }

    /// The same in Chinese.
    #[must_use]
    pub const fn zh(self) -> &'static str {
        self.sentences().1
    }

    const fn sentences(self) -> (&'static str, &'static str) {
        match self.0 {
            0x00 => ("The phone has received the message.", "对方手机已收到短信。"),
            0x01 => (
                "The message was passed on, but the service centre cannot say whether the phone received it.",
                "短信已转出，但短信中心无法确认手机是否收到。",
            ),
            0x02 => ("The message was replaced by a later one.", "短信已被后来的短信替换。"),
            0x03..=0x1F => ("The service centre reports the message as done.", "短信中心报告短信已处理完毕。"),
            0x20 => ("The network is congested; the service centre keeps trying.", "网络拥塞，短信中心仍在尝试。"),
            0x21 => ("The phone is busy; the service centre keeps trying.", "对方手机忙，短信中心仍在尝试。"),
            0x22 => ("The phone does not answer; the service centre keeps trying.", "对方手机无应答，短信中心仍在尝试。"),
            0x23 => ("The network refused for now; the service centre keeps trying.", "网络暂时拒绝服务，短信中心仍在尝试。"),
            0x24 => (
                "The quality of service is not available now; the service centre keeps trying.",
                "暂时达不到所需的服务质量，短信中心仍在尝试。",
            ),
            0x25 => ("An error in the phone; the service centre keeps trying.", "对方手机出错，短信中心仍在尝试。"),
            0x26..=0x3F => ("Not delivered yet; the service centre keeps trying.", "尚未送达，短信中心仍在尝试。"),
            0x40 => ("A protocol error at the recipient's side.", "对方一侧发生协议错误。"),
            0x41 => ("The recipient's phone or network cannot take this kind of message.", "对方手机或网络不支持这种短信。"),
            0x42 => ("The required quality of service is not available.", "无法达到所需的服务质量。"),
            0x43 => (
                "The number cannot be reached: it does not exist or takes no messages.",
                "号码无法送达：号码不存在或不接收短信。",
            ),
            0x44 => ("The connection to the phone is barred.", "与对方手机的连接被禁止。"),
            0x45 => ("The message ran out of time before the phone could be reached.", "短信已过有效期，一直未能送达手机。"),
            0x46 => ("The message was deleted at the sender's request.", "短信已应发送方要求删除。"),
            0x47 => ("The message was deleted by the service centre's operator.", "短信已被短信中心管理员删除。"),
            0x48 => ("The service centre no longer has the message.", "短信中心已没有这条短信。"),
            0x49..=0x5F => ("The message could not be delivered.", "短信无法送达。"),
            0x60 => ("The network was congested; the service centre has given up.", "网络拥塞，短信中心已放弃。"),
            0x61 => ("The phone was busy; the service centre has given up.", "对方手机忙，短信中心已放弃。"),
            0x62 => ("The phone did not answer; the service centre has given up.", "对方手机无应答，短信中心已放弃。"),
            0x63 => ("The network refused; the service centre has given up.", "网络拒绝服务，短信中心已放弃。"),
            0x64 => (
                "The quality of service was not available; the service centre has given up.",
                "达不到所需的服务质量，短信中心已放弃。",
            ),
            0x65 => ("An error in the phone; the service centre has given up.", "对方手机出错，短信中心已放弃。"),
            0x66..=0xFF => ("Not delivered; the service centre has given up.", "未能送达，短信中心已放弃。"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_and_sentences() {
        for (octet, class) in [
            (0x00, StatusClass::Done),
            (0x1F, StatusClass::Done),
            (0x20, StatusClass::Trying),
            (0x3F, StatusClass::Trying),
            (0x40, StatusClass::Permanent),
            (0x46, StatusClass::Permanent),
            (0x5F, StatusClass::Permanent),
            (0x60, StatusClass::GaveUp),
            (0x7F, StatusClass::GaveUp),
            (0x80, StatusClass::GaveUp),
            (0xFF, StatusClass::GaveUp),
        ] {
            assert_eq!(Status(octet).class(), class, "{octet:#04x}");
        }
        for status in (0..=0xFF).map(Status) {
            assert!(status.en().ends_with('.') && status.zh().ends_with('。'));
            // The sentences say the same as the class.
            assert_eq!(status.en().contains("keeps trying"), status.class() == StatusClass::Trying);
            assert_eq!(status.zh().contains("仍在尝试"), status.class() == StatusClass::Trying);
            assert_eq!(status.en().contains("has given up"), status.class() == StatusClass::GaveUp);
            assert_eq!(status.zh().contains("已放弃"), status.class() == StatusClass::GaveUp);
            assert_eq!(status.received(), status.0 == 0);
        }
    }
}
