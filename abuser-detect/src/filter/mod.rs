//! stub
use crate::{record::Record, time::Time};
/// stub
#[derive(Debug)]
pub struct Filter;
/// stub
#[derive(Debug)]
pub struct Match { /// stub
 pub time: Option<Time> }
impl Match { /// stub
 pub fn record(&self) -> Record<'_> { Record::default() } }
impl Filter {
    /// stub
    pub fn observe(&mut self, _: &str, _: Time) -> Vec<Match> { vec![] }
}
