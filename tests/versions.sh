#!/usr/bin/env bash
# The fast tests in fresh environments: on the oldest versions that pyproject.toml allows (lowest), on the newest
# (newest), or with each extra missing in turn (extras).
#   tests/versions.sh lowest|newest|extras [PYTHON] [PYTEST ARGUMENTS ...]
# A bound such as 1.10 stands for its newest patch, 1.10.*. torch is that of constraints.txt, of which a CPU build may be at
# hand; TORCH=2.6.0 or TORCH=newest names another.
set -euo pipefail
cd "$(dirname "$0")/.."
which=${1:?lowest, newest or extras}
interpreter=${2:-python3}
arguments=("${@:3}")
environment=$(mktemp -d)
trap 'rm -rf "$environment"' EXIT
export PIP_DISABLE_PIP_VERSION_CHECK=1 OMP_NUM_THREADS=${OMP_NUM_THREADS:-2}

"$interpreter" -m venv "$environment/venv"
python="$environment/venv/bin/python"
constraints="$environment/constraints.txt"
case ${TORCH:-} in
    "") cp constraints.txt "$constraints" ;;
    newest) : > "$constraints" ;;
    *) echo "torch==$TORCH" > "$constraints" ;;
esac

if [ "$which" = lowest ]; then
    # The lower bound of every requirement, of the extras and of the test tools too, as an exact version.
    "$python" -m pip install --quiet tomli
    "$python" - >> "$constraints" <<'PYTHON'
import re
from pathlib import Path

import tomli

project = tomli.loads(Path("pyproject.toml").read_text(encoding="utf-8"))["project"]
wanted = [*project["dependencies"], *(line for extra in project["optional-dependencies"].values() for line in extra)]
bounds = {found[1]: found[2] for line in wanted if (found := re.match(r"([A-Za-z0-9_.-]+)>=([0-9.]+)", line))}
for name, version in sorted(bounds.items()):
    if name != "torch":
        print(f"{name}=={version}" + (".*" if version.count(".") < 2 else ""))
PYTHON
fi

run_tests() {
    echo "== $1"
    "$python" -m pip freeze | grep -i -E '^(torch|monai|numpy|scipy|timm|pydantic|nibabel|highdicom|pydicom)=='
    "$python" -m pytest -q -n 2 --dist loadfile -m "not slow" -p no:cacheprovider "${arguments[@]}"
}

echo "== install"
"$python" -m pip install --quiet -c "$constraints" -e '.[test,onnx]'
if [ "$which" != extras ]; then
    run_tests "$which"
    exit
fi
for extra in "highdicom pydicom python-gdcm" pycocotools "onnx onnxruntime onnxscript"; do
    # shellcheck disable=SC2086  # several packages
    "$python" -m pip uninstall --quiet --yes $extra
    run_tests "without $extra"
    "$python" -m pip install --quiet -c "$constraints" -e '.[test,onnx]'
done
