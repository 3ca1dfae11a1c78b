"""Mistakes with tables whose remedy is in sight: another separator, a path from elsewhere."""

import pytest

from preprocess.sources.csvtable import CSV
from shards.errors import DataError


@pytest.mark.parametrize(("char", "flag"), [(";", "';'"), ("\t", "tab"), ("|", "'|'")])
def test_a_header_in_one_column_is_a_matter_of_the_separator(char, flag, tmp_path):
    (tmp_path / "excel.csv").write_text(f"Filename{char}Labels\na.jpg{char}dog\n")
    with pytest.raises(DataError, match="has one column") as error:
        CSV(tmp_path).records("all")
    assert str(error.value).endswith(f"; give --separator {flag}")


def test_a_table_named_from_the_working_folder(tmp_path, monkeypatch):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos/labels.csv").write_text("path,labels\n")
    monkeypatch.chdir(tmp_path)
    for table in ("photos/labels.csv", str(tmp_path / "photos/labels.csv")):
        with pytest.raises(DataError) as error:
            CSV(tmp_path / "photos", table=table).records("all")
        assert str(error.value).endswith("; give it relative to --root: --table labels.csv")
