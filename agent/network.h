/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * agent/network.h - the target's network: VPC, subnet, security group and public address,
 * found or made.  Each notes its id in m->run; what is noted already is not looked for.
 */
#include <stdbool.h>

#include "agent/migration.h"

struct cJSON;

/* The id of the target region's project, noted in m->run. */
int agt_network_project(struct agt_migration *m, struct err *e) _must_check_;

/* -ERR_FORBIDDEN: a quota, with what can be freed and the call for it. */
int agt_network_vpc(struct agt_migration *m, struct err *e) _must_check_;
int agt_network_subnet(struct agt_migration *m, struct err *e) _must_check_;
int agt_network_group(struct agt_migration *m, struct err *e) _must_check_;

/* A public address from the first pool that gives one. */
int agt_network_address(struct agt_migration *m, struct err *e) _must_check_;

/* All public addresses of the project; the array is the caller's. */
int agt_network_addresses(struct agt_migration *m, struct cJSON **ret, struct err *e)
	_must_check_;

/* Those who may talk to the target: the source and EXTRA_PEER_IPS, as "192.0.2.1/32". */
#define AGT_PEERS_MAX 64
#define AGT_PEER_SIZE 56
struct agt_peers {
	char v[AGT_PEERS_MAX][AGT_PEER_SIZE];
	size_t n;
};

/* -ERR_USAGE: one of EXTRA_PEER_IPS is no address or network. */
int agt_network_peers(const struct agt_migration *m, struct agt_peers *ret, struct err *e)
	_must_check_;

/*
 * Does a rule of the list (security_group_rules[]) let peer in or out, for TCP on port (0:
 * everything)?
 */
bool agt_network_allowed(const struct cJSON *rules, const char *direction, const char *peer,
			 unsigned port);

/* All rules of a security group; the array is the caller's. */
int agt_network_rules(struct agt_migration *m, const char *group, struct cJSON **ret,
		      struct err *e) _must_check_;
