use proptest::prelude::*;

use super::*;

#[test]
fn a_key_of_another_kind_is_another_key() {
    let mut bytes = [0x01; 16];
    bytes[1] = 0x98;
    bytes[6] = 0x7a;
    bytes[8] = 0x9b;
    let dated = RequestKey::uuid_v7(bytes).expect("a UUID of version 7");
    assert_ne!(dated, RequestKey::token(bytes));
    assert_eq!(dated.unix_ms(), Some(0x0198_0101_0101));
    bytes[6] = 0x4a;
    assert_eq!(RequestKey::uuid_v7(bytes), None);
}

#[test]
fn names_from_text_never_change() {
    // Written into logs: a change here would make every retried key a new one.
    assert_eq!(BuyerId::from_text("alice").to_string(), "buyer:519b244e84fa0a4c9f69d1ed4c7eb64b");
    assert_eq!(RequestKey::from_text("alice").to_string(), "key:a066483898df0dc77b8deff9f22b1c92");
    assert_eq!(SkuId::from_text("alice").get(), 6_657_963_632_971_188_737);
    assert_ne!(MerchantId::from_text("alice").get(), SkuId::from_text("alice").get());
    // As the crate's first versions stored them.
    assert_eq!(RequestKey::new(7).to_string(), "key:07000000000000000000000000000000");
    assert_eq!(RequestKey::new(1 << 90).to_bytes(), (1_u128 << 90).to_le_bytes());
}

#[test]
fn an_order_id_names_its_partition() {
    let id = OrderId::from_parts(1023, SEQUENCE_END - 1);
    assert_eq!((id.partition(), id.sequence()), (1023, SEQUENCE_END - 1));
    assert_eq!(id.get(), (1 << 53) - 1);
    assert_eq!(OrderId::from_parts(5, 7), OrderId::from_u64(7 * 1024 + 5));
}

#[test]
fn texts_that_are_no_ids_are_named() {
    let order = |text: &str| text.parse::<OrderId>().expect_err(text);
    let what = "an order id";
    for text in ["", "123", "order:5", "ord", "or\u{e9}_1"] {
        assert_eq!(order(text), ParseIdError::NoPrefix { what, prefix: "ord_" });
    }
    let length = |digits| ParseIdError::WrongLength { what, digits, min: 1, max: 13 };
    assert_eq!(order("ord_"), length(0));
    assert_eq!(order("ord_12345678901234"), length(14));
    for (text, found) in [("ord_1u", 'u'), ("ord_1-", '-'), ("ord_1\u{e9}", '\u{e9}')] {
        assert_eq!(order(text), ParseIdError::NotADigit { what, found, at: 5 });
    }
    assert_eq!(order("ord_g000000000000"), ParseIdError::TooLarge { what });
    assert_eq!("ord_fzzzzzzzzzzzz".parse(), Ok(OrderId::from_u64(u64::MAX)));
    assert_eq!(order("ord_01"), ParseIdError::LeadingZero { what });
    assert_eq!("ord_oi".parse::<OrderId>(), Err(ParseIdError::LeadingZero { what }));
    assert_eq!("Ord_Zil0O".parse(), "ord_z1100".parse::<OrderId>());

    let what = "a request key";
    let key = |text: &str| text.parse::<RequestKey>().expect_err(text);
    assert_eq!(key(&"0".repeat(32)), ParseIdError::NoPrefix { what, prefix: "key:" });
    assert_eq!(key("key7:12"), ParseIdError::WrongLength { what, digits: 2, min: 32, max: 32 });
    assert_eq!(key(&format!("key7:{}", "0".repeat(32))), ParseIdError::NotUuidV7 { what });
    let bad = format!("key:{}g", "0".repeat(31));
    assert_eq!(key(&bad), ParseIdError::NotADigit { what, found: 'g', at: 35 });
    let buyer = "buyer:".parse::<BuyerId>().expect_err("no digits");
    assert_eq!(buyer.to_string(), "text of a buyer: 0 digits after the prefix, 32 to 32 needed");
}

#[test]
fn a_text_that_nearly_is_a_uuid_is_none() {
    let uuid = "01981cf8-6d2b-7c4f-a1d2-0123456789ab";
    assert!(read_uuid(uuid).is_some());
    for text in [
        "01981cf8-6d2b-7c4f-a1d2-0123456789a",
        "01981cf8-6d2b-7c4f-a1d2-0123456789abc",
        "01981cf86-d2b-7c4f-a1d2-0123456789ab",
        "01981cf8-6d2b-7c4f-a1d2-0123456789ag",
        "01981cf86d2b7c4fa1d2-0123456789ab",
        "{01981cf8-6d2b-7c4f-a1d2-0123456789ab",
        "\"01981cf8-6d2b-7c4f-a1d2-0123456789ab",
        " 01981cf8-6d2b-7c4f-a1d2-0123456789ab",
        "urn:uuid:{01981cf8-6d2b-7c4f-a1d2-0123456789ab}",
        "+1981cf8-6d2b-7c4f-a1d2-0123456789ab",
        "01981cf8-6d2b-7c4f-a1d2-012345678\u{e9}a",
        "",
    ] {
        assert_eq!(read_uuid(text), None, "{text}");
        assert_eq!(RequestKey::from_text(text).kind(), KeyKind::Opaque);
    }
}

/// Every way to name the same UUID.
fn spellings(bytes: [u8; 16]) -> Vec<String> {
    let simple: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let groups = [&simple[..8], &simple[8..12], &simple[12..16], &simple[16..20], &simple[20..]];
    let hyphenated = groups.join("-");
    let lower = [
        simple.clone(),
        hyphenated.clone(),
        format!("{{{hyphenated}}}"),
        format!("urn:uuid:{hyphenated}"),
        format!("\"{hyphenated}\""),
    ];
    let upper = lower.clone().map(|text| text.to_uppercase());
    lower.into_iter().chain(upper).collect()
}

/// Bits of a UUID of this version; version 7 with a time of the years 2020 to 2099.
fn uuid(version: u8, mut bytes: [u8; 16], unix_ms: u64) -> [u8; 16] {
    if version == 7 {
        bytes[..6].copy_from_slice(&unix_ms.to_be_bytes()[2..]);
    }
    bytes[6] = bytes[6] & 0x0f | version << 4;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    bytes
}

proptest! {
    #[test]
    fn one_uuid_is_one_key_and_one_buyer_however_it_is_given(
        version in 1_u8..=8,
        random: [u8; 16],
        unix_ms in UUID_V7_FROM_MS..UUID_V7_BEFORE_MS,
    ) {
        let bytes = uuid(version, random, unix_ms);
        let (key, buyer) = (RequestKey::from_uuid_bytes(bytes), BuyerId::from_uuid_bytes(bytes));
        prop_assert_eq!(key.unix_ms(), (version == 7).then_some(unix_ms));
        prop_assert_eq!(RequestKey::uuid_v7(bytes), (version == 7).then_some(key));
        prop_assert_eq!(RequestKey::new(u128::from_be_bytes(bytes)), key);
        prop_assert_eq!(RequestKey::from(u128::from_be_bytes(bytes)), key);
        for text in spellings(bytes) {
            prop_assert_eq!(RequestKey::from_text(&text), key, "{}", text);
            prop_assert_eq!(BuyerId::from_text(&text), buyer, "{}", text);
        }
        #[cfg(feature = "uuid")]
        {
            let uuid = uuid::Uuid::from_bytes(bytes);
            prop_assert_eq!(RequestKey::from(uuid), key);
            prop_assert_eq!(RequestKey::new(uuid.as_u128()), key);
            prop_assert_eq!(BuyerId::from(uuid), buyer);
        }
    }

    #[test]
    fn a_uuid_of_version_7_of_another_time_is_the_same_opaque_key_however_it_is_given(
        random: [u8; 16],
        unix_ms in prop_oneof![0..UUID_V7_FROM_MS, UUID_V7_BEFORE_MS..1 << 48],
    ) {
        let bytes = uuid(7, random, unix_ms);
        prop_assert_eq!(RequestKey::uuid_v7(bytes), None);
        prop_assert_eq!(RequestKey::new(u128::from_be_bytes(bytes)), RequestKey::token(bytes));
        for text in spellings(bytes) {
            prop_assert_eq!(RequestKey::from_text(&text), RequestKey::token(bytes), "{}", text);
        }
    }

    #[test]
    fn what_is_written_is_read_in_any_case(number: u64, bits: u128, shift in 0_u32..64) {
        for id in [number, number >> shift] {
            let text = OrderId::from_u64(id).to_string();
            prop_assert_eq!(text.parse(), Ok(OrderId::from_u64(id)));
            prop_assert_eq!(text.to_uppercase().parse(), Ok(OrderId::from_u64(id)));
            prop_assert!(text.bytes().all(|it| it == b'_' || it.is_ascii_alphanumeric()));
            prop_assert!(text.len() <= 17);
        }
        let bytes = bits.to_be_bytes();
        let dated = RequestKey::from_uuid_bytes(uuid(7, bytes, UUID_V7_FROM_MS + number % 1_000));
        for key in [RequestKey::token(bytes), dated] {
            prop_assert_eq!(key.to_string().parse(), Ok(key));
            prop_assert_eq!(key.to_string().to_uppercase().parse(), Ok(key));
        }
        let buyer = BuyerId::from_uuid_bytes(bytes);
        prop_assert_eq!(buyer.to_string().parse(), Ok(buyer));
    }

    #[test]
    fn any_text_is_an_id_or_named(text: String, digits in "(ord_|key:|key7:|buyer:)[0-9a-zA-Z]{0,40}") {
        for text in [text, digits] {
            let _ = text.parse::<OrderId>();
            let _ = text.parse::<BuyerId>();
            let _ = text.parse::<RequestKey>();
            let _ = RequestKey::from_text(&text);
        }
    }
}
