//! What pairing says when it refuses, in both languages. The English words are those of the crate that refuses.

use twinpost_node::api::Text;
use twinpost_peer::{Error, PairingError};

/// A refusal for people.
pub fn refused(error: &Error) -> Text {
    let zh = match error {
        Error::NoIdentity { path } => {
            format!("本节点没有身份密钥：缺少 {}；配对时会创建新的密钥，对方节点随后更换伙伴", path.display())
        }
        Error::Damaged { path, what } => {
            format!("{} 无法使用：{what}；请从本节点的备份恢复，或删除它并重新配对两个节点", path.display())
        }
        Error::Exposed { path, mode } => {
            format!(
                "{} 可被他人读取或修改（权限 {mode:o}），其内容可能已泄露；若确定没有，请 chmod 600，否则删除并重新配对",
                path.display()
            )
        }
        Error::NotPaired => {
            "本节点尚未配对：在一个节点上执行 pair pairing offer，在另一个节点上执行 pair pairing join".to_owned()
        }
        Error::Listen { address, source } => {
            format!("无法在 {address} 上监听：{source}；直连线的网口是否已启用，该端口是否被占用？")
        }
        Error::Down { why } => format!("无法连接对方节点：{why}"),
        Error::Lost { why } => format!("对方节点应答之前连接中断（{why}）：重试之前请先查看其状态"),
        Error::Late { limit_ms } => format!("对方节点未在 {limit_ms} 毫秒内应答：重试之前请先查看其状态"),
        Error::Refused(refusal) => format!("对方节点拒绝：{refusal}"),
        Error::Pairing(error) => pairing(error),
        other => other.to_string(),
    };
    Text::new(error.to_string(), zh)
}

fn pairing(error: &PairingError) -> String {
    match error {
        PairingError::CodeForm => "配对码为八位数字，例如 1234-5678".to_owned(),
        PairingError::WrongCode { left } => format!("配对码错误；还可尝试 {left} 次"),
        PairingError::TooManyWrongCodes => "配对码已输错三次，本次配对已结束；请重新生成，若不是您输入的，请查明是谁".to_owned(),
        PairingError::Expired => "本次配对已结束：配对码有效期为十分钟，请重新生成".to_owned(),
        PairingError::AlreadyPaired { node, with } => {
            format!(
                "{node} 已与 {with} 配对；若该节点已永久移除，请在 {node} 上加 --replace 再次执行，或先在那里执行 pair pairing undo"
            )
        }
        PairingError::TwoPairs { first, first_with, second, second_with } => {
            format!(
                "两个节点分属不同的双机（{first} 与 {first_with}，{second} 与 {second_with}）：请在要移走的节点上执行 pair pairing undo"
            )
        }
        PairingError::SameName { name } => format!("两个节点同名（{name}）：请修改其中一个的 node.name 后再配对"),
        PairingError::SameKey => "两个节点的密钥相同（可能是复制的磁盘）：请在其中一个节点上删除身份文件夹后再配对".to_owned(),
        PairingError::Version { ours, theirs } => {
            format!("对方节点的配对版本为 {theirs}，本节点为 {ours}：请先升级较旧的节点")
        }
        PairingError::Interrupted { step, why } => format!("配对在步骤 {step} 中断（{why}）：请重试，未完成的部分会自动修复"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_has_both_languages() {
        let all = [
            Error::NotPaired,
            Error::Down { why: "timed out".into() },
            Error::Pairing(PairingError::WrongCode { left: 2 }),
            Error::Pairing(PairingError::TooManyWrongCodes),
            Error::Pairing(PairingError::SameName { name: "a".into() }),
            Error::Pairing(PairingError::Interrupted { step: "keys".into(), why: "closed".into() }),
        ];
        for error in all {
            let Text { en, zh } = refused(&error);
            assert_eq!(en, error.to_string());
            assert!(zh != en && zh.chars().any(|c| ('\u{4e00}'..'\u{9fff}').contains(&c)), "{zh}");
        }
    }
}
