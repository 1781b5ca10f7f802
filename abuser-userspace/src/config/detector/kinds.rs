//! stub
use super::{ConfigError, Section};
use crate::policy::BanPolicy;
/// stub
#[derive(Clone, Debug, PartialEq)]
pub enum DetectorKind { /// stub
 Threshold }
#[derive(Debug)]
pub(super) struct FromPolicy;
impl FromPolicy { pub(super) fn fill(self, _: &mut DetectorKind, _: &BanPolicy) {} }
pub(super) fn read(_: &Section<'_>, _: bool) -> Result<(DetectorKind, FromPolicy), ConfigError> { Ok((DetectorKind::Threshold, FromPolicy)) }
