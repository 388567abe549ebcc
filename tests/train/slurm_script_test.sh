#!/usr/bin/env bash
# tools/train.sbatch with stand-ins for Slurm's commands and for train: what is started how, what a
# signal does, when the job is requeued.
#
#   slurm_script_test.sh SOURCE
set -euo pipefail

source=$(realpath "$1")
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"

# As srun does, it hands on SIGUSR1 to what it starts; what it was called with is kept.
cat > srun <<'END'
#!/usr/bin/env bash
echo "$*" > called
while [ "${1#-}" != "$1" ]; do shift; done
"$@" &
child=$!
trap 'kill -USR1 $child' USR1
while true; do
  wait $child
  status=$?
  kill -0 $child 2> /dev/null || exit $status
done
END
printf '#!/bin/sh\necho "$*" > requeued\n' > scontrol
# Ends with the number that it is told; after SIGUSR1, once its "checkpoint" is written.
cat > train <<'END'
#!/usr/bin/env bash
trap 'sleep 0.5; echo whole > checkpoint; exit 0' USR1
touch started
for _ in $(seq "$2"); do sleep 0.1; done
exit "$1"
END
chmod +x srun scontrol train
export PATH="$folder:$PATH" BERT_TRAIN="$folder/train" SLURM_JOB_ID=77

fail() {
  echo "FAILED: $1"
  exit 1
}
# job EXIT_CODE TENTHS [SIGNAL]: its exit code, in `status`.
job() {
  rm -f called requeued checkpoint started
  "$source/tools/train.sbatch" "$1" "$2" &
  job=$!
  if [ $# = 3 ]; then
    until [ -e started ]; do sleep 0.05; done
    kill "-$3" $job
  fi
  status=0
  wait $job || status=$?
}

job 0 1
[ $status = 0 ] || fail "exit code $status of a run that ended"
[ ! -e requeued ] || fail "a run that ended is requeued"
grep -q -- "--mpi=pmix .*train 0 1 --resume auto" called || fail "srun was called with $(cat called)"

job 2 1
[ $status = 2 ] || fail "exit code $status of a run that failed"
[ ! -e requeued ] || fail "a run that failed is requeued, and would fail again"

job 0 100 USR1
[ $status = 0 ] || fail "exit code $status of a run whose time was over"
[ -e checkpoint ] || fail "the job did not wait for the checkpoint"
[ "$(cat requeued)" = "requeue 77" ] || fail "not requeued"

job 3 10 TERM
[ $status = 3 ] || fail "exit code $status of a run that was pre-empted: it was not waited for"
[ ! -e requeued ] || fail "Slurm requeues a pre-empted job itself"
echo passed
