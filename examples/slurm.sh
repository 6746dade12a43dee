#!/bin/bash
# Encode and select on several machines of Slurm, by Ray or by torchrun:
#
#   sbatch --nodes 4 --gpus-per-node 8 --cpus-per-task 64 examples/slurm.sh ray select.py
#   sbatch --nodes 4 --gpus-per-node 8 --cpus-per-task 64 examples/slurm.sh processes select.py
#
# select.py calls `select(..., engine=Ray(gpus=1))`, or `select(..., engine="processes")`. HF_DATASETS_CACHE must be a folder that
# all machines see. The environment with hf-sae-select must be active where sbatch is called.
#
# How far it was tried: both ways on one machine, with stand-ins for srun and scontrol that run commands there. Nobody has
# run it on Slurm.
#SBATCH --job-name=sae-select
#SBATCH --ntasks-per-node=1
set -euo pipefail
engine=$1
shift
export HF_DATASETS_CACHE=${HF_DATASETS_CACHE:-$PWD/cache} RAY_USAGE_STATS_ENABLED=0
export RAY_AUTH_MODE=token # `ray start` asks for one, which lies in the home folder that all machines see
mapfile -t nodes < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
head=${nodes[0]}
port=$((20000 + SLURM_JOB_ID % 20000)) # so that two jobs of one machine do not meet

if [ "$engine" = processes ]; then
  srun torchrun --nnodes "${#nodes[@]}" --nproc-per-node "${SLURM_GPUS_ON_NODE:-1}" \
    --rdzv-backend c10d --rdzv-endpoint "$head:$port" --rdzv-id "$SLURM_JOB_ID" "$@"
  exit
fi

export RAY_ADDRESS="$head:$port"
ray get-auth-token --generate >/dev/null
srun --nodes 1 --ntasks 1 --nodelist "$head" \
  ray start --head --node-ip-address "$head" --port "$port" --include-dashboard false --block &
trap 'kill $(jobs -p) 2>/dev/null || true' EXIT
for node in "${nodes[@]:1}"; do
  srun --nodes 1 --ntasks 1 --nodelist "$node" ray start --address "$RAY_ADDRESS" --block &
done
# A machine that joins later than the script is not used by it: wait for all of them.
until python -c "
import ray
ray.init(address='$RAY_ADDRESS', log_to_driver=False, logging_level='ERROR')
exit(sum(node['Alive'] for node in ray.nodes()) < ${#nodes[@]})
" 2>/dev/null; do sleep 2; done
python "$@"
