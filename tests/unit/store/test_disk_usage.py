from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import select

from dicom_node.store import database
from dicom_node.store.disk_usage import DiskUsage, Outlook
from dicom_node.store.index import Index
from dicom_node.store.tables import disk_usage
from tests.support.clock import Clock
from tests.support.holdings import DAY, Holdings

GIB = 2**30


def days(index: Index, clock: Clock, count: int, growth: int) -> DiskUsage:
    """Disk usage of `count` days up to now, which grew by `growth` bytes a day."""
    with database.writing(index.engine) as connection:
        for day in range(count):
            connection.execute(
                disk_usage.insert().values(
                    day=f"2023-01-{day + 1:02d}",
                    at=clock.now - (count - day) * DAY,
                    films=100 * GIB + day * growth // 2,
                    results=50 * GIB + (day * growth - day * growth // 2),
                    maps=0,
                    index_bytes=0,
                )
            )
    return DiskUsage(index.engine, clock)


def test_the_day_when_the_disk_is_full_follows_from_the_growth(index: Index, clock: Clock) -> None:
    forecast = days(index, clock, 20, GIB).forecast(30 * GIB)
    assert forecast.outlook is Outlook.FILLING
    assert forecast.days_left == pytest.approx(30)
    assert forecast.full_at == pytest.approx(clock.now + 30 * DAY)
    assert forecast.bytes_per_day == pytest.approx(GIB)
    assert str(forecast) == "2023-12-14, by a growth of 1024 MiB a day"


def test_a_new_node_does_not_know(index: Index, clock: Clock) -> None:
    forecast = days(index, clock, 6, GIB).forecast(30 * GIB)
    assert (forecast.outlook, forecast.full_at, forecast.days) == (Outlook.UNKNOWN, None, 6)
    assert str(forecast) == "not known yet: its use was measured on 6 of 7 days"


@pytest.mark.parametrize("growth", [0, -GIB, 1000])
def test_a_disk_that_hardly_fills_is_steady(index: Index, clock: Clock, growth: int) -> None:
    forecast = days(index, clock, 20, growth).forecast(30 * GIB)
    assert (forecast.outlook, forecast.full_at, forecast.days_left) == (Outlook.STEADY, None, None)


def test_a_disk_without_room_is_full_now(index: Index, clock: Clock) -> None:
    forecast = days(index, clock, 3, GIB).forecast(-5)
    assert (forecast.outlook, forecast.full_at, forecast.days_left) == (Outlook.FULL, clock.now, 0)


def test_each_day_has_one_row_of_what_is_kept(index: Index, tmp_path: Path, clock: Clock) -> None:
    held = Holdings(index, tmp_path / "data", clock)
    held.film("1.1", size=1000)
    held.end("1.1", size=2000)
    held.confirm()
    usage = DiskUsage(index.engine, clock)
    assert not usage.recorded_today()
    usage.record(held.maps.root)
    assert usage.recorded_today()
    clock.now += 11 * DAY
    held.purge(films_days=10).run()
    usage.record(held.maps.root)
    usage.record(held.maps.root)
    with database.reading(index.engine) as connection:
        first, last = connection.execute(select(disk_usage).order_by(disk_usage.c.at)).all()
    assert (first.day, first.results >= 2000, first.maps > 0, first.index_bytes > 0) == (
        "2023-11-14",
        True,
        True,
        True,
    )
    assert first.films - last.films >= 1000
    assert last.films == 0
