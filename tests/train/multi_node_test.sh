#!/usr/bin/env bash
# Training on two machines, as docs/cluster.md describes it for mpirun, where the machines are two
# network namespaces of this one, joined by a bridge: ranks reach each other over TCP only, and what
# starts them elsewhere is a few lines in the place of ssh.
#
#   multi_node_test.sh BUILD/bin SOURCE
#
# Exit code 77: it cannot be done here (not root, no ip, no network namespaces, no MPI).
set -euo pipefail

bin=$(realpath "$1")
source=$(realpath "$2")

skip() {
  echo "SKIP: $1"
  exit 77
}
[ "$(id -u)" = 0 ] || skip "network namespaces are made by root"
for tool in ip unshare mpirun; do
  command -v "$tool" > /dev/null || skip "$tool is not installed"
done
[ -e "$bin/bert_mpi_communicator.so" ] || skip "built without MPI"

# What Open MPI itself never frees is not looked for.
export ASAN_OPTIONS=${ASAN_OPTIONS:-}:detect_leaks=0

folder=$(mktemp -d)
id=bert$$
clean_up() {
  for machine in "$id"_1 "$id"_2 "$id"_net; do
    # Those that a failure has left, of these namespaces only.
    ip netns pids "$machine" 2> /dev/null | xargs -r kill -9 2> /dev/null || true
    ip netns delete "$machine" 2> /dev/null || true
  done
  rm -rf "$folder"
}
trap clean_up EXIT

# The network: a bridge in a namespace of its own, and a cable from it to each machine.
ip netns add "${id}_net" 2> /dev/null || skip "network namespaces cannot be made here"
ip -n "${id}_net" link add bridge type bridge 2> /dev/null || skip "bridges cannot be made here"
ip -n "${id}_net" link set bridge up
for n in 1 2; do
  ip netns add "${id}_$n"
  ip -n "${id}_net" link add "port$n" type veth peer name eth0 netns "${id}_$n"
  ip -n "${id}_net" link set "port$n" master bridge up
  ip -n "${id}_$n" link set lo up
  ip -n "${id}_$n" link set eth0 up
  ip -n "${id}_$n" address add "10.91.0.$n/24" dev eth0
done

# on_machine N COMMAND...: there, with that machine's name.
cat > "$folder/on_machine" <<END
#!/bin/sh
n=\$1
shift
exec ip netns exec ${id}_\$n unshare --uts sh -c 'hostname machine'\$n'; exec "\$@"' sh "\$@"
END
# What mpirun calls instead of ssh: ADDRESS and a command line of the shell.
cat > "$folder/agent" <<END
#!/bin/sh
address=\$1
shift
exec "$folder/on_machine" "\${address##*.}" sh -c "\$*"
END
chmod +x "$folder/on_machine" "$folder/agent"
"$folder/on_machine" 1 true 2> /dev/null || skip "a machine cannot be given a name here"

printf '10.91.0.1 slots=1\n10.91.0.2 slots=1\n' > "$folder/hosts"
on_two_machines() {
  timeout 120 "$folder/on_machine" 1 mpirun --allow-run-as-root --hostfile "$folder/hosts" -np 2 \
    --bind-to none --mca plm_rsh_agent "$folder/agent" \
    --mca oob_tcp_if_include 10.91.0.0/24 --mca btl_tcp_if_include 10.91.0.0/24 \
    --mca oob_tcp_keepalive_time 5 --mca oob_tcp_keepalive_intvl 2 \
    --mca oob_tcp_keepalive_probes 3 "$@"
}

# A corpus and short runs with a very small model.
for n in $(seq 1 400); do
  echo "the $((n % 7)) cats and $((n % 5)) dogs of house $((n % 3)) sat by the fire and slept. then rain fell."
  [ $((n % 4)) = 0 ] && echo
done > "$folder/text.txt"
"$bin/train_tokenizer" --type wordpiece --vocab-size 200 --input "$folder/text.txt" \
  --output "$folder/tokenizer" > /dev/null 2>&1
"$bin/prepare_corpus" --tokenizer "$folder/tokenizer" --input "$folder/text.txt" \
  --output "$folder/corpus" > /dev/null 2>&1
settings=("$source/configs/bert_tiny.yaml" "tokenizer.path=$folder/tokenizer"
  "data.path=$folder/corpus" model.vocab_size=auto train.max_steps=20 train.batch_size=16
  schedule.warmup_steps=5 checkpoint.every_steps=10 evaluation.every_steps=10 logging.every_steps=1
  logging.tensorboard=false runtime.device=cpu runtime.threads=1)

fail() {
  echo "FAILED: $1"
  [ -f "$folder/output" ] && cat "$folder/output"
  exit 1
}
bytes_received_by_second() {
  ip netns exec "${id}_2" cat /sys/class/net/eth0/statistics/rx_bytes 2> /dev/null ||
    ip -n "${id}_2" -s link show eth0 | awk '/RX/ {getline; print $1; exit}'
}
losses() { sed -n 's/.*"mlm_loss": *\([0-9.]*\),.*/\1/p' "$1/metrics.jsonl"; }

"$bin/train" "${settings[@]}" run_dir="$folder/one" > "$folder/output" 2>&1 || fail "one process"
before=$(bytes_received_by_second)
on_two_machines "$bin/train" "${settings[@]}" run_dir="$folder/two" > "$folder/output" 2>&1 ||
  fail "two machines"
received=$(($(bytes_received_by_second) - before))
echo "the second machine received $received bytes"
# The gradients of half a million parameters, twenty times, and more.
[ "$received" -gt 30000000 ] || fail "the ranks were not on two machines"
paste <(losses "$folder/one") <(losses "$folder/two") | awk '
  NF == 2 { difference = ($1 - $2) / $1; if (difference < 0) difference = -difference
            if (difference > worst) worst = difference; n++ }
  END { printf "%d steps, largest relative difference of losses %.2g\n", n, worst
        exit !(n == 20 && worst < 1e-4) }' || fail "other losses than in one process"

# Going on, as after a requeue.
on_two_machines "$bin/train" "${settings[@]}" run_dir="$folder/two" train.max_steps=30 \
  --resume auto > "$folder/output" 2>&1 || fail "resuming on two machines"
grep -q "resumed at step 20" "$folder/output" || fail "it did not resume"

# What is wrong on one machine only is said by its rank, and ends the job.
on_two_machines sh -c "case \$(hostname) in machine2) exec $bin/train \"\$@\" seed=5;; esac
  exec $bin/train \"\$@\"" sh "${settings[@]}" run_dir="$folder/three" > "$folder/output" 2>&1 &&
  fail "another seed was not noticed"
grep -q "error: rank 1: this rank is not like rank 0: seed is 5 here, 0 on rank 0" \
  "$folder/output" || fail "no word of the other seed"

# A machine that loses its rank, and one that drops off the network.
wait_for_steps() {
  for _ in $(seq 1 600); do
    [ "$(grep -c loss "$1/metrics.jsonl" 2> /dev/null)" -ge 5 ] 2> /dev/null && return
    sleep 0.1
  done
  fail "no steps in $1"
}
for way in killed unplugged; do
  on_two_machines "$bin/train" "${settings[@]}" run_dir="$folder/$way" train.max_steps=1000000 \
    checkpoint.every_steps=0 evaluation.every_steps=0 > "$folder/output" 2>&1 &
  job=$!
  wait_for_steps "$folder/$way"
  begin=$(date +%s)
  if [ $way = killed ]; then
    for process in $(ip netns pids "${id}_2"); do
      [ "$(readlink "/proc/$process/exe")" = "$bin/train" ] && kill -9 "$process"
    done
  else
    ip -n "${id}_net" link set port2 down
  fi
  status=0
  wait $job || status=$?
  echo "$way: exit code $status after $(($(date +%s) - begin)) s"
  [ $status != 0 ] || fail "$way: exit code 0"
  [ $status != 124 ] || fail "$way: stopped by the time limit only"
done
echo passed
