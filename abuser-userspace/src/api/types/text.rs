//! What is text in JSON, and more than that: how it looks, for [`crate::api::openapi`].

use utoipa::{
    PartialSchema, ToSchema,
    openapi::{
        RefOr, Schema,
        schema::{AnyOfBuilder, KnownFormat, Object, ObjectBuilder, SchemaFormat, Type},
    },
};

/// A number from 0 to 255.
macro_rules! octet {
    () => {
        "(25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])"
    };
}

/// Stands for [`ipnet::IpNet`] and sources in the document.
pub(in crate::api) enum Prefix {}

impl ToSchema for Prefix {}

impl PartialSchema for Prefix {
    fn schema() -> RefOr<Schema> {
        let pattern = |pattern: &str| text().pattern(Some(pattern)).build();
        let ipv4 = pattern(concat!(
            "^(",
            octet!(),
            "\\.){3}",
            octet!(),
            "/(3[0-2]|[12]?[0-9])$"
        ));
        let ipv6 = pattern("^[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*/(12[0-8]|1[01][0-9]|[1-9]?[0-9])$");
        AnyOfBuilder::new()
            .item(ipv4)
            .item(ipv6)
            .description(Some("An IPv4 or IPv6 prefix with its length."))
            .examples(["203.0.113.7/32", "2001:db8::/32"])
            .into()
    }
}

/// Stands for [`std::net::IpAddr`] in the document.
pub(in crate::api) enum Address {}

impl ToSchema for Address {}

impl PartialSchema for Address {
    fn schema() -> RefOr<Schema> {
        let format = |format: KnownFormat| -> Object {
            text()
                .format(Some(SchemaFormat::KnownFormat(format)))
                .build()
        };
        AnyOfBuilder::new()
            .item(format(KnownFormat::Ipv4))
            .item(format(KnownFormat::Ipv6))
            .description(Some("An IPv4 or IPv6 address."))
            .examples(["203.0.113.7", "2001:db8::7"])
            .into()
    }
}

/// Stands for `()` in the document.
pub(in crate::api) enum Null {}

impl ToSchema for Null {}

impl PartialSchema for Null {
    fn schema() -> RefOr<Schema> {
        ObjectBuilder::new()
            .schema_type(Type::Null)
            .description(Some("Always `null`."))
            .into()
    }
}

fn text() -> ObjectBuilder {
    ObjectBuilder::new().schema_type(Type::String)
}
