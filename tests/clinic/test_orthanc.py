"""A DICOM server of others, Debian's Orthanc with DICOMweb: what is pushed comes back as it was. Loopback only."""

from __future__ import annotations

import json
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytestmark = pytest.mark.slow

PLUGIN = "/usr/share/orthanc/plugins/libOrthancDicomWeb.so"


def fetch(url: str, data: bytes | None = None, **headers: str) -> bytes:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(urllib.request.Request(url, data, named), timeout=60) as answer:
        return answer.read()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def server(program: Callable[[str, str], str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    orthanc = program("Orthanc", "orthanc orthanc-dicomweb")
    if not Path(PLUGIN).exists():
        pytest.skip("no DICOMweb plugin of Orthanc: apt-get install orthanc-dicomweb")
    folder, port = tmp_path_factory.mktemp("orthanc"), free_port()
    settings = {
        "StorageDirectory": str(folder / "store"),
        "IndexDirectory": str(folder / "store"),
        "HttpPort": port,
        "DicomServerEnabled": False,
        "RemoteAccessAllowed": False,
        "AuthenticationEnabled": False,
        "Plugins": [PLUGIN],
        "DicomWeb": {"Enable": True, "Root": "/dicom-web/", "StudiesMetadata": "Full", "SeriesMetadata": "Full"},
    }
    (folder / "orthanc.json").write_text(json.dumps(settings))
    with (folder / "log").open("w") as log:
        process = subprocess.Popen([orthanc, str(folder / "orthanc.json")], stdout=log, stderr=log)
    try:
        for _ in range(240):
            try:
                fetch(f"http://127.0.0.1:{port}/system")
                break
            except (urllib.error.URLError, ConnectionError):
                assert process.poll() is None, (folder / "log").read_text()
                time.sleep(0.5)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(30)


def store(server: str, path: Path) -> None:
    """STOW-RS of one file."""
    head = b"--cut\r\nContent-Type: application/dicom\r\n\r\n"
    body = head + path.read_bytes() + b"\r\n--cut--\r\n"
    kind = 'multipart/related; type="application/dicom"; boundary=cut'
    answer = json.loads(fetch(f"{server}/dicom-web/studies", body, Content_Type=kind, Accept="application/dicom+json"))
    assert not answer.get("00081198", {}).get("Value"), "failed"
    assert len(answer["00081199"]["Value"]) == 1, "stored"


def test_what_is_pushed_comes_back(server: str, written: Any, tmp_path: Path) -> None:
    import pydicom

    from unia_med.data.io.dicom.seg import read_segmentation
    from unia_med.data.io.dicom.series import find_series

    for path in [*written.images.iterdir(), *written.segs, *written.contours, written.report]:
        store(server, path)
    study = pydicom.dcmread(written.report, stop_before_pixels=True).StudyInstanceUID
    for path in (written.segs[0], written.contours[1], written.report):
        header = pydicom.dcmread(path)
        place = f"{server}/dicom-web/studies/{study}/series/{header.SeriesInstanceUID}"
        found = json.loads(fetch(f"{place}/instances", Accept="application/dicom+json"))
        assert header.SOPInstanceUID in {item["00080018"]["Value"][0] for item in found}
        (orthanc_id,) = json.loads(
            fetch(f"{server}/tools/lookup", header.SOPInstanceUID.encode(), Content_Type="text/plain")
        )
        assert fetch(f"{server}/instances/{orthanc_id['ID']}/file") == path.read_bytes()
        returned = fetch(
            f"{place}/instances/{header.SOPInstanceUID}", Accept='multipart/related; type="application/dicom"'
        )
        start = returned.index(b"\r\n\r\n") + 4
        (tmp_path / path.name).write_bytes(returned[start : returned.rindex(b"\r\n--")])
        assert pydicom.dcmread(tmp_path / path.name) == header
    series = find_series(written.images)
    uids = [item.sop_uid for item in series.stack.grid[0]]
    labels = read_segmentation(tmp_path / written.segs[0].name, uids)
    np.testing.assert_array_equal(labels.transpose(2, 1, 0), written.labels[0])


def test_every_object_hangs_on_the_study_of_its_images(server: str, written: Any) -> None:
    for path in [*written.images.iterdir(), *written.segs, *written.contours, written.report]:
        store(server, path)
    (study,) = json.loads(fetch(f"{server}/studies?expand"))
    kinds = sorted(s["MainDicomTags"]["Modality"] for s in json.loads(fetch(f"{server}/series?expand")))
    assert kinds == ["MR"] * 5 + ["RTSTRUCT", "SEG", "SR"] and len(study["Series"]) == 8
