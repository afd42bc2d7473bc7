//! What must hold for any rule file whatever: the body that the fuzz target and the bounded tests share.
//! It panics where a promise of `waypost::access` is broken, and never because of what the file says.
//! Read `../access_fuzz.rs` for the bounded test, `../../fuzz` for the target.

use waypost::access::{Access, Act, Coverage, Form, Identity, Rules, Source, Subscribing, Verdict};
use waypost::codec::Qos;

/// The first byte chooses the form; the rest is the file.
pub(crate) fn check(data: &[u8]) {
    let Some((&choice, text)) = data.split_first() else { return };
    let (name, form) = if choice & 1 == 0 { ("acl", Form::Mosquitto) } else { ("acl.toml", Form::Native) };
    let rules = match Rules::read(&[Source { name, text, form }]) {
        Ok(rules) => rules,
        Err(faults) => {
            assert!(!faults.is_empty() && !faults.to_string().is_empty(), "a refusal says why");
            assert!(faults.iter().all(|fault| fault.place.starts_with(name) && fault.message.len() < 2_000));
            return;
        }
    };
    assert!(rules.notes().all(|note| note.len() < 2_000));
    let access = Access::with_rules(rules);
    // Names and topics out of the file itself meet its rules most often.
    let words: Vec<&str> = text
        .utf8_chunks()
        .flat_map(|chunk| chunk.valid().split([' ', '"', '\n', '\r', '\t', '[', ']', '.', ',']))
        .filter(|word| !word.is_empty())
        .take(40)
        .collect();
    let word = |at: usize| words.get(at % words.len().max(1)).copied().unwrap_or("a");
    for at in 0..words.len().min(12) {
        let who = Identity {
            user_name: (at % 3 > 0).then(|| word(at).into()),
            client_id: word(at / 2 + 1).into(),
            address: (at % 4 == 0).then_some([10, 0, 0, 1].into()),
            ..Identity::default()
        };
        let text = word(at * 7 + usize::from(choice)).as_bytes();
        check_acts(&access, &who, text);
    }
    access.who(None, word(1).as_bytes());
}

fn check_acts(access: &Access, who: &Identity, text: &[u8]) {
    let receive = Act::Receive { topic: text };
    let lenient = access.clone().subscribing(Subscribing::Lenient);
    for act in
        [Act::Publish { topic: text, qos: Qos::AtLeastOnce, retain: true }, Act::Subscribe { filter: text }, receive]
    {
        let explanation = access.explain(who, act);
        assert_eq!(explanation.verdict, access.decide(who, act), "{explanation}");
        assert!(explanation.to_string().len() < 4_000);
    }
    assert_eq!(lenient.decide(who, Act::Subscribe { filter: text }), Verdict::Allowed);
    let is_topic = has_none_of(text, b"+#");
    match access.covers(who, text) {
        Coverage::Everything if is_topic => assert_eq!(access.decide(who, receive), Verdict::Allowed),
        Coverage::Nothing if is_topic => assert_eq!(access.decide(who, receive), Verdict::Denied),
        Coverage::Part => assert!(!is_topic, "a topic is covered or not"),
        _ => {}
    }
}

fn has_none_of(text: &[u8], none_of: &[u8]) -> bool {
    !text.iter().any(|byte| none_of.contains(byte))
}
