import pytest

from tt_gym.motions.convert import main


def test_a_source_with_another_hash_is_refused(tmp_path, capsys):
    (tmp_path / "pybullet-3.2.7-cp311.whl").write_bytes(b"something else")
    with pytest.raises(SystemExit, match="1"):
        main(["--output", str(tmp_path / "out"), "--cache", str(tmp_path)])
    assert "sha256 is" in (error := capsys.readouterr().err)
    assert "delete it and try again" in error
    assert not (tmp_path / "out").exists()
