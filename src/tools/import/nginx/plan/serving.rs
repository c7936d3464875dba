//! Locations that do not pass requests on: files, or nothing.

use super::files::{FilesEnd, read_files};
use super::guards::{contentless, foreign_content};
use super::location::{LocationPlan, LocationPlanner, PathChange};
use super::values::ValueReader;
use crate::tools::import::nginx::model::NginxLocation;
use crate::tools::import::nginx::tree::NginxDirective;
use crate::tools::import::notice::ImportNotice;
use crate::tools::import::offered;

impl<'a> LocationPlanner<'_, 'a> {
    /// Directives of a location itself. Those of a server, for all of its locations, are read before.
    pub(super) fn inner_of(&self, location: &NginxLocation<'a>) -> &'a [NginxDirective] {
        match std::ptr::eq(location.directive, self.server.directive) {
            true => &[],
            false => location.directive.inner(),
        }
    }

    pub(super) fn serve(
        &self,
        location: &NginxLocation<'a>,
        head: &str,
        values: &ValueReader<'_, '_>,
        plan: &mut LocationPlan,
    ) -> Result<(), ImportNotice> {
        let inner = self.inner_of(location);
        let is_known = inner
            .iter()
            .all(|d| super::row_of(d.name()).is_some() || d.block.is_some());
        if foreign_content(inner).is_some() || !is_known || !offered::has_route_key("files") {
            return Err(contentless(location, head));
        }
        let scope = &location.scope;
        if scope.all_of(&["root", "alias"]).is_empty() && scope.own_directive("try_files").is_none()
        {
            plan.keys.push(("respond", "{ status = 404 }".into()));
            let says = format!("{head}: there is no `root`: 404, and no directory of nginx's own");
            let place = &location.directive.place;
            plan.notices.push(ImportNotice::differs(place, says));
            return Ok(());
        }
        let names = self.index_of(location, &mut plan.notices);
        let files = read_files(location, values, FilesEnd::Here, &names).map_err(|why| {
            ImportNotice::left_out(&location.directive.place, format!("{head}: {why}"))
        })?;
        plan.keys.extend(files.keys);
        plan.notices.extend(files.notices);
        // nginx searches the location of the last word again.
        let tried = location.scope.own_directive("try_files");
        let last = tried.and_then(|tried| tried.args().last());
        if let (Some(tried), Some(last)) = (tried, last)
            && let Some(other) = self.answering(last)
            && !std::ptr::eq(other.directive, location.directive)
        {
            let says = format!(
                "{last} is sent as of this place; in nginx it has what `{}` says",
                other.directive.line()
            );
            plan.notices.push(tried.difference(&says));
        }
        if files.change != PathChange::None {
            plan.change = files.change;
        }
        Ok(())
    }
}
