"""A Modbus server for the end-to-end tests, on TCP or on a serial line, built on pymodbus.

It prints one JSON line when it listens, then takes one JSON command a line on standard input, answers each with one
JSON line, and ends with its input:

    {"do": "set", "unit": 1, "table": "holding", "address": 0, "values": [1, 2]}
    {"do": "count", "unit": 1, "table": "holding", "address": 8, "words": 2}
    {"do": "served", "unit": 1, "table": "holding", "address": 8}
    {"do": "mode", "unit": 1, "mode": "normal" | "silent" | "exception" | "slow", "code": 4, "delay_ms": 300}

A counter goes up by one with every request that reads its first register, so the first value served is 1 and
"served" tells how many were. A unit that was never named is silent; a register that was never set is an illegal address.
"""

import argparse
import asyncio
import json
import sys

from pymodbus import FramerType
from pymodbus.constants import ExcCodes
from pymodbus.datastore import ModbusServerContext
from pymodbus.datastore.context import ModbusBaseDeviceContext
from pymodbus.exceptions import NoSuchIdException
from pymodbus.server import ModbusSerialServer, ModbusTcpServer

TABLE_OF_FUNCTION = {1: "coil", 5: "coil", 15: "coil", 2: "discrete", 4: "input", 3: "holding", 6: "holding", 16: "holding"}


class Unit(ModbusBaseDeviceContext):
    """One unit on the bus: its registers, its counters and how it behaves."""

    def __init__(self):
        self.registers = {}
        self.counters = {}
        self.mode = "normal"
        self.exception = ExcCodes.DEVICE_FAILURE
        self.delay_s = 0.0

    def set(self, table, address, values):
        for offset, value in enumerate(values):
            self.registers[table, address + offset] = value

    def count(self, table, address, words):
        self.counters[table, address] = [0, words]
        self.set(table, address, [0] * words)

    async def async_getValues(self, func_code, address, count=1):
        if self.mode == "slow":
            await asyncio.sleep(self.delay_s)
        if self.mode == "exception":
            return self.exception
        table = TABLE_OF_FUNCTION[func_code]
        wanted = [(table, register) for register in range(address, address + count)]
        if not all(register in self.registers for register in wanted):
            return ExcCodes.ILLEGAL_ADDRESS
        for register in wanted:
            if register in self.counters:
                self.step(register)
        return [self.registers[register] for register in wanted]

    def step(self, register):
        counter = self.counters[register]
        counter[0] += 1
        served, words = counter
        # Most significant word first, as the Modbus specification orders bytes.
        self.set(*register, [served >> 16 * (words - 1 - word) & 0xFFFF for word in range(words)])

    async def async_setValues(self, func_code, address, values):
        self.set(TABLE_OF_FUNCTION[func_code], address, values)


class Bus(ModbusServerContext):
    """The units by number; one that is silent or unknown does not answer."""

    def __init__(self):
        super().__init__(devices={}, single=False)
        self.units = {}

    def __getitem__(self, number):
        unit = self.units.get(number)
        if unit is None or unit.mode == "silent":
            raise NoSuchIdException(f"unit {number} is silent")
        return unit

    def obey(self, command):
        unit = self.units.setdefault(command["unit"], Unit())
        match command["do"]:
            case "set":
                unit.set(command["table"], command["address"], command["values"])
            case "count":
                unit.count(command["table"], command["address"], command["words"])
            case "served":
                return {"served": unit.counters[command["table"], command["address"]][0]}
            case "mode":
                unit.mode = command["mode"]
                unit.exception = ExcCodes(command.get("code", ExcCodes.DEVICE_FAILURE))
                unit.delay_s = command.get("delay_ms", 0) / 1000
            case other:
                raise ValueError(f"unknown command {other}")
        return {}


def say(answer):
    print(json.dumps(answer), flush=True)


async def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("line", choices=["tcp", "rtu"])
    parser.add_argument("port", help="a TCP port on loopback (0 for a free one), or the path of a serial device")
    parser.add_argument("--baud", type=int, default=19200)
    options = parser.parse_args()

    bus = Bus()
    if options.line == "tcp":
        server = ModbusTcpServer(bus, address=("127.0.0.1", int(options.port)), ignore_missing_devices=True)
    else:
        server = ModbusSerialServer(
            bus, framer=FramerType.RTU, port=options.port, baudrate=options.baud, ignore_missing_devices=True
        )
    await server.serve_forever(background=True)
    say({"port": server.transport.sockets[0].getsockname()[1] if options.line == "tcp" else options.port})

    commands = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(commands), sys.stdin)
    while line := await commands.readline():
        say(bus.obey(json.loads(line)))
    await server.shutdown()


asyncio.run(main())
