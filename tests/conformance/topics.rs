//! Section 4.7: Topic Names and Topic Filters.

use crate::house::{broker, with_sys_topics};
use crate::support::wire::{Version, connect, property, publish, reason::*, suback, subscribe, unsubscribe, will};
use crate::talk::{Client, both, seconds};

/// Subscribes to `filter` alone, publishes to each of `topics`, and returns those that came back.
fn heard_by(filter: &str, topics: &[&str], version: Version) -> Vec<String> {
    let broker = broker();
    let publisher = Client::connects(&broker, connect(version, "publisher"));
    for topic in topics {
        publisher.publishes(publish(topic, "retained").retain());
    }
    let client = Client::connects(&broker, connect(version, "client"));
    client.subscribes(filter, 0);
    let names = |publishes: Vec<crate::support::wire::Publish>| {
        let name = |publish: crate::support::wire::Publish| String::from_utf8_lossy(&publish.topic).into_owned();
        publishes.into_iter().map(name).collect::<Vec<_>>()
    };
    let mut retained = names(client.hears_publishes());
    for topic in topics {
        publisher.says(publish(topic, "live"));
    }
    let live = names(client.hears_publishes());
    retained.sort_by_key(|name| topics.iter().position(|topic| topic == name));
    assert_eq!(retained, live, "retained and live messages match {filter:?} alike");
    live
}

both!(mqtt_4_7_0_1_wildcards_belong_in_filters_only, mqtt311_4_7_1_1_wildcards_belong_in_filters_only, |version| {
    let broker = broker();
    let observer = Client::connects(&broker, connect(version, "observer"));
    observer.subscribes("#", 0);
    for topic in ["sport/+", "sport/#", "+", "#", "sport+", "sport/#/x"] {
        let client = Client::connects(&broker, connect(version, "client"));
        let codes = [TOPIC_NAME_INVALID, PROTOCOL_ERROR, MALFORMED_PACKET];
        client.says(publish(topic, "x")).is_thrown_out(&codes);
        let client = Client::tries(&broker, version, connect(version, "client").will(will(topic, "x")));
        client.is_turned_away(&codes);
    }
    observer.hears_nothing();
});

/// Neither subscribed to nor known to UNSUBSCRIBE.
fn is_no_filter(filter: &str, version: Version) {
    let broker = broker();
    let client = Client::connects(&broker, connect(version, "client"));
    let refused = if version.is_v5() { TOPIC_FILTER_INVALID } else { 0x80 };
    client.says(subscribe(1).to(filter, 1)).hears_suback_codes(1, &[refused]);
    assert_eq!(broker.subscriptions(), 0);
    client.is_alive();
}

both!(
    mqtt_4_7_1_1_a_number_sign_stands_alone_or_after_a_slash_and_last,
    mqtt311_4_7_1_2_a_number_sign_stands_alone_or_after_a_slash_and_last,
    |version| {
        for filter in ["sport/tennis#", "sport/tennis/#/ranking", "#/", "##", "a#", "#a", "a/#b", "a/b#/c", "+#", "#+"]
        {
            is_no_filter(filter, version);
        }
        let topics = ["sport/tennis/player1", "sport/tennis/player1/ranking", "sport/tennis/player1/score/wimbledon"];
        assert_eq!(heard_by("sport/tennis/player1/#", &topics, version), topics);
        // "sport/#" also matches the singular "sport", and "#" everything.
        let topics = ["sport", "sport/", "sport/x", "sports", "spor", "/sport"];
        assert_eq!(heard_by("sport/#", &topics, version), ["sport", "sport/", "sport/x"]);
        assert_eq!(heard_by("#", &topics, version), topics);
        assert_eq!(heard_by("/#", &topics, version), ["/sport"]);
    }
);

both!(mqtt_4_7_1_2_a_plus_sign_fills_a_whole_level, mqtt311_4_7_1_3_a_plus_sign_fills_a_whole_level, |version| {
    for filter in ["sport+", "+sport", "sport/+x", "sport/x+/y", "++", "+a/b", "a/b+"] {
        is_no_filter(filter, version);
    }
    let topics = ["sport/tennis/player1", "sport/tennis/player2", "sport/tennis/player1/ranking", "sport/tennis"];
    let players = ["sport/tennis/player1", "sport/tennis/player2"];
    assert_eq!(heard_by("sport/tennis/+", &topics, version), players);
    // "+" matches an empty level, but not a missing one.
    let topics = ["sport", "sport/", "/finance", "finance", "/", "//", "a/b/c", "sport/x/player1"];
    assert_eq!(heard_by("sport/+", &topics, version), ["sport/"]);
    assert_eq!(heard_by("+/+", &topics, version), ["sport/", "/finance", "/"]);
    assert_eq!(heard_by("/+", &topics, version), ["/finance", "/"]);
    assert_eq!(heard_by("+", &topics, version), ["sport", "finance"]);
    assert_eq!(heard_by("+/+/#", &topics, version), ["sport/", "/finance", "/", "//", "a/b/c", "sport/x/player1"]);
    assert_eq!(heard_by("sport/+/player1", &topics, version), ["sport/x/player1"]);
    assert_eq!(heard_by("+/x/#", &topics, version), ["sport/x/player1"]);
    assert_eq!(heard_by("//", &topics, version), ["//"]);
});

both!(
    mqtt_4_7_2_1_a_filter_that_begins_with_a_wildcard_matches_no_topic_that_begins_with_a_dollar_sign,
    mqtt311_4_7_2_1_a_filter_that_begins_with_a_wildcard_matches_no_topic_that_begins_with_a_dollar_sign,
    |version| {
        let broker = broker();
        let leading = Client::connects(&broker, connect(version, "leading"));
        for filter in ["#", "+/#", "+/broker/#", "+/+/+", "+/broker/version"] {
            leading.subscribes(filter, 0);
        }
        let sharing = Client::connects(&broker, connect(version, "sharing"));
        sharing.subscribes("$share/group/#", 0).subscribes("$share/group/+/#", 0);
        let client = Client::connects(&broker, connect(version, "client"));
        for topic in ["$SYS/broker/version", "$SYS", "$other/x", "$"] {
            client.says(publish(topic, "x").retain());
        }
        leading.hears_nothing();
        sharing.hears_nothing();
        // Elsewhere a dollar sign is an ordinary character.
        leading.says(publish("a/$b", "x")).receives(publish("a/$b", "x"));
    }
);

both!(
    mqtt_4_7_2_1_the_brokers_own_topics_are_not_matched_by_a_leading_wildcard,
    mqtt311_4_7_2_1_the_brokers_own_topics_are_not_matched_by_a_leading_wildcard,
    |version| {
        let broker = with_sys_topics();
        let leading = Client::connects(&broker, connect(version, "leading"));
        leading.subscribes("#", 0).subscribes("+/#", 0).subscribes("+/broker/#", 0).subscribes("$share/g/#", 0);
        let asking = Client::connects(&broker, connect(version, "asking"));
        asking.subscribes("$SYS/#", 0).hears_all();
        broker.advance(seconds(30));
        leading.hears_nothing();
        let heard = asking.hears_publishes();
        assert!(!heard.is_empty() && heard.iter().all(|message| message.topic.starts_with(b"$SYS/")), "{heard:?}");
        // Nor when they are retained.
        let late = Client::connects(&broker, connect(version, "late"));
        late.subscribes("#", 0).subscribes("+/#", 0).subscribes("+/broker/#", 0).hears_nothing();
    }
);

both!(
    mqtt_4_7_3_1_topics_and_filters_have_at_least_one_character,
    mqtt311_4_7_3_1_topics_and_filters_have_at_least_one_character,
    |version| {
        let broker = broker();
        let observer = Client::connects(&broker, connect(version, "observer"));
        observer.subscribes("#", 0);
        let client = Client::connects(&broker, connect(version, "client"));
        client.says(publish("", "x")).is_thrown_out(&[PROTOCOL_ERROR, TOPIC_NAME_INVALID, MALFORMED_PACKET]);
        observer.hears_nothing();
        if version.is_v5() {
            is_no_filter("", version);
        } else {
            let client = || Client::connects(&broker, connect(version, "client"));
            client().says(subscribe(1).to("", 0)).is_thrown_out(&[]);
            client().says(unsubscribe(1).from("")).is_thrown_out(&[]);
        }
        Client::tries(&broker, version, connect(version, "mortal").will(will("", "x"))).is_turned_away(&[
            TOPIC_NAME_INVALID,
            PROTOCOL_ERROR,
            MALFORMED_PACKET,
        ]);
    }
);

both!(mqtt_4_7_3_2_topics_and_filters_hold_no_u_0000, mqtt311_4_7_3_2_topics_and_filters_hold_no_u_0000, |version| {
    let broker = broker();
    let observer = Client::connects(&broker, connect(version, "observer"));
    observer.subscribes("#", 0);
    let client = || Client::connects(&broker, connect(version, "client"));
    client().says(publish("a\0b", "x")).is_thrown_out(&[MALFORMED_PACKET]);
    client().says(subscribe(1).to("a\0b", 0)).is_thrown_out(&[MALFORMED_PACKET]);
    client().says(unsubscribe(1).from("a\0b")).is_thrown_out(&[MALFORMED_PACKET]);
    observer.hears_nothing();
});

both!(
    mqtt_4_7_3_3_topics_and_filters_take_up_to_65_535_bytes,
    mqtt311_4_7_3_3_topics_and_filters_take_up_to_65_535_bytes,
    |version| {
        let broker = broker();
        let longest = "x".repeat(65_535);
        let client = Client::connects(&broker, connect(version, "client"));
        client.says(subscribe(1).to(&longest, 1)).hears(suback(1, &[1]));
        client.publishes(publish(&longest, "live").retain());
        client.receives(publish(&longest, "live"));
        client.unsubscribes(&longest);
        client.subscribes("+", 0).receives(publish(&longest, "live").retain());
        let other = Client::connects(&broker, connect(version, "other"));
        other.subscribes(&longest[1..], 0).hears_nothing();
    }
);

both!(
    mqtt_4_7_3_4_topics_are_matched_as_they_came_without_normalization,
    mqtt311_4_7_3_4_topics_are_matched_as_they_came_without_normalization,
    |version| {
        let topics = [
            "ACCOUNTS",
            "Accounts",
            "accounts",
            "accounts payable",
            "\u{e9}",   // é as one character
            "e\u{301}", // é as two
            "\u{212b}", // the sign for the angstrom
            "\u{c5}",   // the letter that looks like it
            "a/b",
            "a/b/",
            "/a/b",
            "a//b",
            "a/./b",
            "a/../b",
            "a%2fb",
            " a/b",
            "\u{fb01}",
            "fi",
        ];
        let broker = broker();
        let client = Client::connects(&broker, connect(version, "client"));
        for topic in topics {
            client.subscribes(topic, 0);
            for other in topics {
                client.says(publish(other, "x"));
            }
            client.receives(publish(topic, "x"));
            client.unsubscribes(topic);
        }
    }
);

both!(
    a_topic_of_many_levels_is_matched_level_by_level,
    a_topic_of_many_levels_is_matched_level_by_level_in_3_1_1,
    |version| {
        let deep = vec!["x"; 128].join("/");
        let pluses = vec!["+"; 128].join("/");
        let broker = broker();
        let client = Client::connects(&broker, connect(version, "client"));
        client.subscribes(&pluses, 0);
        client.says(publish(&deep, "x")).receives(publish(&deep, "x"));
        client.says(publish(&deep[2..], "x")).hears_nothing();
    }
);

#[test]
fn a_topic_with_a_slash_at_either_end_is_another_topic() {
    for version in [Version::V5, Version::V311] {
        let topics = ["a", "/a", "a/", "/a/", "/", "//"];
        for filter in topics {
            assert_eq!(heard_by(filter, &topics, version), [filter]);
        }
    }
}

#[test]
fn a_topic_alias_is_resolved_before_matching() {
    let broker = broker();
    let publisher = Client::connects(&broker, connect(Version::V5, "publisher"));
    let client = Client::connects(&broker, connect(Version::V5, "client"));
    client.subscribes("a/+/c", 0);
    publisher.says(publish("a/b/c", "1").with(property::topic_alias(2)));
    publisher.says(publish("", "2").with(property::topic_alias(2)));
    publisher.says(publish("a/b/d", "3").with(property::topic_alias(2)));
    publisher.says(publish("", "4").with(property::topic_alias(2)));
    client.receives_all([publish("a/b/c", "1"), publish("a/b/c", "2")]);
}
