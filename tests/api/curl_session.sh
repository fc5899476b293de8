#!/bin/bash
# A whole session with nothing but curl and the published reference: curl_session.sh URL TOKEN
#
# The served example becomes a workflow; its jobs are claimed, started and completed; what is left is
# looked at; then all of it is reset and restarted. Ends with 0 only if every answer was as it must be.
set -euo pipefail
url=$1 token=$2
answer=""

# call METHOD PATH [BODY]: the answer goes into $answer; anything but 200 ends the session.
call() {
  local method=$1 path=$2 body=${3-}
  local arguments=(--silent --show-error --max-time 20 --request "$method" --write-out '\n%{http_code}'
    --header "Authorization: Bearer $token" --header "Content-Type: application/json")
  [[ -z $body ]] || arguments+=(--data-binary "$body")
  answer=$(curl "${arguments[@]}" "$url$path")
  local status=${answer##*$'\n'}
  answer=${answer%$'\n'*}
  if [[ $status != 200 ]]; then
    echo "$method $path: $status $answer" >&2
    exit 1
  fi
}

# text NAME [NUMBER]: the NUMBER-th member of that name in $answer whose value is a text.
text() {
  grep -o "\"$1\":\"[^\"]*\"" <<< "$answer" | sed -n "${2-1}s/^\"$1\":\"\(.*\)\"$/\1/p"
}

# has TEXT: $answer must contain it.
has() {
  if [[ $answer != *"$1"* ]]; then
    echo "expected $1 in $answer" >&2
    exit 1
  fi
}

call GET /ping
call GET /workflow_specifications/example
call POST /workflow_specifications "$answer"
workflow=$(text _key)
base=/workflows/$workflow
echo "workflow $workflow"

begin_run() {
  call POST "$base/reset_status"
  call POST "$base/reset_job_status"
  call PUT "$base/status" "{\"run_id\": $1, \"is_canceled\": false, \"auto_tune_status\": {}}"
  call POST "$base/initialize_jobs"
}

# run_jobs RUN_ID: claim what is ready, run it, until nothing is.
run_jobs() {
  local run_id=$1 key revision
  resources='{"num_cpus": 8, "memory_gb": 64, "num_gpus": 0, "num_nodes": 1}'
  while call POST "$base/prepare_jobs_for_submission?limit=1" "$resources" && [[ $answer == *'"_key"'* ]]; do
    key=$(text _key) revision=$(text _rev)
    echo "run $run_id: $(text name)"
    call PUT "$base/jobs/$key/start_job/$revision/$run_id/$node"
    has '"status":"submitted"'
    revision=$(text _rev)
    call POST "$base/jobs/$key/complete_job/done/$revision/$run_id/$node" "{\"job_key\": \"$key\",
      \"run_id\": $run_id, \"return_code\": 0, \"exec_time_minutes\": 0.5,
      \"completion_time\": \"2026-01-01T00:00:00\", \"status\": \"done\"}"
    has '"status":"done"'
  done
}

begin_run 1
call POST "$base/compute_nodes" '{"hostname": "curl", "pid": 1, "start_time": "2026-01-01T00:00:00",
  "resources": {"num_cpus": 8, "memory_gb": 64}}'
node=$(text _key)
run_jobs 1

call GET "$base/is_complete"
has '"is_complete":true'
call GET "$base/events_after_timestamp/0?category=job"
has '"total_count":4'
has '"type":"start"'
has '"type":"complete"'
call GET "$base/latest_event_timestamp"
call POST "$base/join_by_outbound_edge/compute_nodes/executed" '{}'
has '"total_count":2'
has '"data":{"run_id":1}'
call POST "$base/join_by_inbound_edge/results/returned" '{"return_code": 0}'
has '"total_count":2'
for graph in job_job_dependencies job_file_dependencies job_user_data_dependencies; do
  call GET "$base/dot_graph/$graph"
  has "strict digraph $graph"
done

begin_run 2
run_jobs 2
call GET "$base/results"
has '"total_count":4'

# Nothing has changed, so nothing runs again; then the first job's command does.
call POST "$base/restart" '{}'
has '"jobs":[]'
call GET "$base/jobs?limit=1"
key=$(text _key) revision=$(text _rev)
call PUT "$base/jobs/$key" "{\"command\": \"something else\", \"_rev\": \"$revision\"}"
call POST "$base/restart" '{"dry_run": true}'
has '"name":"work"'
has '"name":"postprocess"'
call POST "$base/restart" '{}'
has '"run_id":4'
run_jobs 4
call GET "$base/is_complete"
has '"is_complete":true'

call DELETE "$base"
echo "deleted"
