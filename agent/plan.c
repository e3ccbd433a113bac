/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/plan.h"

#include <string.h>

#include "agent/json.h"
#include "common/macro.h"

static const struct {
	const char *method;
	const char *path;
	const char *answer;
} answers[] = {
	{ "POST", "/v3/migprojects", "{\"id\":\"<migproject_id>\"}" },
	{ "POST", "/v3/sources", "{\"id\":\"<source_id>\"}" },
	{ "POST", "/v3/tasks", "{\"id\":\"<task_id>\"}" },
	{ "GET", "/v3/tasks/{}", "{\"id\":\"<task_id>\",\"state\":\"MIGRATE_SUCCESS\"}" },
	{ "POST", "/v1/{project_id}/vpcs", "{\"vpc\":{\"id\":\"<vpc_id>\",\"status\":\"OK\"}}" },
	{ "POST", "/v1/{project_id}/subnets",
	  "{\"subnet\":{\"id\":\"<subnet_id>\",\"status\":\"ACTIVE\"}}" },
	{ "GET", "/v1/{project_id}/subnets/{}",
	  "{\"subnet\":{\"id\":\"<subnet_id>\",\"status\":\"ACTIVE\"}}" },
	{ "POST", "/v1/{project_id}/security-groups",
	  "{\"security_group\":{\"id\":\"<security_group_id>\"}}" },
	{ "POST", "/v1/{project_id}/publicips",
	  "{\"publicip\":{\"id\":\"<publicip_id>\",\"public_ip_address\":\"<address>\"}}" },
	{ "POST", "/v1.1/{project_id}/cloudservers",
	  "{\"job_id\":\"<job_id>\",\"serverIds\":[\"<server_id>\"]}" },
	{ "GET", "/v1/{project_id}/jobs/{}",
	  "{\"status\":\"SUCCESS\",\"entities\":{\"server_id\":\"<server_id>\"}}" },
	{ "GET", "/v1/{project_id}/cloudservers/{}",
	  "{\"server\":{\"id\":\"<server_id>\",\"status\":\"ACTIVE\"}}" },
	{ "POST", "/v2/{project_id}/migration/instance", "{\"instance_id\":\"<task_id>\"}" },
	{ "GET", "/v2/{project_id}/migration-task/{}", "{\"status\":\"SUCCESS\"}" },
};

int agt_plan_fill(const struct agt_call *call, struct agt_reply *ret, struct err *e)
{
	const char *text = "{}";

	for (size_t i = 0; i < ARRAY_SIZE(answers); i++)
		if (!strcmp(answers[i].method, call->method) &&
		    !strcmp(answers[i].path, call->path))
			text = answers[i].answer;
	agt_json_free(ret->body);
	ret->body = NULL;
	return agt_json_parse(bytes_str(text), &ret->body, e);
}
