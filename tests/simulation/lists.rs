//! What clients do with waiting lists, besides joining and leaving.

use crate::judge::Checked;
use crate::sim::Sim;

impl Sim {
    /// So that those who come may wait.
    pub(crate) fn open_lists(&mut self) -> Checked {
        for sku in 1..=self.plan.work.skus {
            let Some(engine) = &self.engine else { return Ok(()) };
            if let Some(ruling) = self.workload.list_ruling() {
                self.judge.rule(engine, sku, &ruling)?;
            }
        }
        Ok(())
    }
}
