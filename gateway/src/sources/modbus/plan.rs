//! Merges neighbouring registers of a unit into few requests.

use super::{Kind, Register, Table};

/// Most registers in one request (Modbus Application Protocol V1.1b3, sections 6.3 and 6.4).
pub(super) const WORDS_MAX: u16 = 125;
/// Most coils or discrete inputs in one request (sections 6.1 and 6.2).
pub(super) const BITS_MAX: u16 = 2_000;
/// Registers between two wanted ones that are read along: 4 registers cost 8 bytes, another request 13 and two silences.
const GAP_WORDS_MAX: u16 = 4;
/// The same for bits: they cost 2 bytes.
const GAP_BITS_MAX: u16 = 16;

/// One request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Block {
    pub(super) table: Table,
    pub(super) address: u16,
    /// Registers or bits.
    pub(super) count: u16,
    /// Which of the unit's registers are in it, by position in the unit.
    pub(super) registers: Vec<usize>,
}

impl Table {
    /// Whether its cells are bits.
    pub(super) fn is_bits(self) -> bool {
        matches!(self, Self::Coil | Self::Discrete)
    }

    /// Its name, as in the file.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Coil => "coil",
            Self::Discrete => "discrete",
            Self::Holding => "holding",
            Self::Input => "input",
        }
    }
}

impl Register {
    /// How many cells of its table the value takes.
    pub(super) fn width(&self) -> u16 {
        match self.kind {
            _ if self.table.is_bits() => 1,
            Kind::Bool | Kind::I16 | Kind::U16 => 1,
            Kind::I32 | Kind::U32 | Kind::F32 => 2,
        }
    }
}

/// The fewest requests for these registers, in the order of tables and addresses.
pub(super) fn merged(registers: &[Register]) -> Vec<Block> {
    let mut singles = single(registers, 0..registers.len());
    singles.sort_by_key(|block| (block.table, block.address));
    let mut blocks: Vec<Block> = Vec::new();
    for next in singles {
        match blocks.last_mut() {
            Some(last) if last.takes(&next) => last.take(&next),
            _ => blocks.push(next),
        }
    }
    blocks
}

/// One request for each of these registers: for a device that does not serve the addresses between them.
pub(super) fn single(registers: &[Register], positions: impl IntoIterator<Item = usize>) -> Vec<Block> {
    let block = |position: usize| {
        let register = registers.get(position)?;
        let (table, address) = (register.table, register.address);
        Some(Block { table, address, count: register.width(), registers: vec![position] })
    };
    positions.into_iter().filter_map(block).collect()
}

impl Block {
    /// One past its last address.
    fn end(&self) -> u32 {
        u32::from(self.address) + u32::from(self.count)
    }

    fn takes(&self, next: &Self) -> bool {
        let (gap_max, count_max) =
            if self.table.is_bits() { (GAP_BITS_MAX, BITS_MAX) } else { (GAP_WORDS_MAX, WORDS_MAX) };
        let count = self.end().max(next.end()) - u32::from(self.address);
        self.table == next.table
            && u32::from(next.address) <= self.end() + u32::from(gap_max)
            && count <= u32::from(count_max)
    }

    fn take(&mut self, next: &Self) {
        let count = self.end().max(next.end()) - u32::from(self.address);
        // `takes` keeps it within a request.
        self.count = u16::try_from(count).unwrap_or(self.count);
        self.registers.extend(&next.registers);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::super::tests::register;
    use super::*;
    use proptest::prelude::*;

    fn spans(registers: &[Register]) -> Vec<(u16, u16)> {
        merged(registers).iter().map(|block| (block.address, block.count)).collect()
    }

    #[test]
    fn neighbours_share_a_request_and_distant_registers_do_not() {
        let registers = [
            register(Table::Holding, 8, Kind::F32),
            register(Table::Holding, 0, Kind::I16),
            register(Table::Holding, 1, Kind::U32),
            register(Table::Holding, 7, Kind::U16),
            register(Table::Holding, 100, Kind::U16),
            register(Table::Input, 10, Kind::U16),
        ];
        assert_eq!(spans(&registers), [(0, 10), (100, 1), (10, 1)]);
        assert_eq!(merged(&registers)[0].registers, [1, 2, 3, 0]);
    }

    #[test]
    fn a_request_stays_within_the_limit_of_the_protocol() {
        let words: Vec<_> = (0..300).map(|address| register(Table::Input, address, Kind::U16)).collect();
        assert_eq!(spans(&words), [(0, 125), (125, 125), (250, 50)]);
        let bits: Vec<_> = (0..2_001).map(|address| register(Table::Coil, address, Kind::F32)).collect();
        assert_eq!(spans(&bits), [(0, 2_000), (2_000, 1)]);
    }

    proptest! {
        #[test]
        fn every_register_is_in_exactly_one_request_that_holds_all_of_it(
            cells in proptest::collection::vec((0..4_usize, any::<u16>(), any::<bool>()), 0..200)
        ) {
            let tables = [Table::Coil, Table::Discrete, Table::Holding, Table::Input];
            let kind = |wide| if wide { Kind::F32 } else { Kind::U16 };
            let registers: Vec<_> =
                cells.iter().map(|(table, address, wide)| register(tables[*table], *address, kind(*wide))).collect();
            let mut seen = vec![0; registers.len()];
            for block in merged(&registers) {
                let count_max = if block.table.is_bits() { BITS_MAX } else { WORDS_MAX };
                prop_assert!(block.count <= count_max);
                for position in &block.registers {
                    seen[*position] += 1;
                    let register = &registers[*position];
                    prop_assert_eq!(register.table, block.table);
                    prop_assert!(register.address >= block.address);
                    prop_assert!(u32::from(register.address) + u32::from(register.width()) <= block.end());
                }
            }
            prop_assert!(seen.iter().all(|count| *count == 1));
        }
    }
}
