package main

import (
	"strconv"

	sdk "tributary.io/sdk-plugin"
)

// What the plugin keeps in its state of an application. Times in keys are written so that
// keys sort by them.
//
//	"thing/" name                      a thing
//	"thing-id/" id                     the name of the thing with this id
//	"thing-client/" client             the name of the thing with this client id
//	"type/" id                         a type of things
//	"member/" group "/" name           that a thing is in a group
//	"shadow/" name                     a thing's shadow
//	"command/" id                      the execution of a command
//	"commands/" thing "/" time "/" id  the id of a command's execution, by time
//	"job/" id                          a job
//	"jobs/" time "/" id                the id of a job, by time
//	"continuous/" group "/" id         that a continuous job is for a group
//	"execution/" thing "/" job         the execution of a job
//	"queue/" thing                     the executions of jobs that have not ended
//	"event/" thing "/" time "/" id     an event of a thing, for as long as it can be listed

func thingKey(name string) string { return "thing/" + name }

func idKey(id string) string { return "thing-id/" + id }

func clientKey(client string) string { return "thing-client/" + client }

func typeKey(id string) string { return "type/" + id }

func memberKey(group, name string) string { return "member/" + group + "/" + name }

func shadowKey(r *call, thing string) string { return r.Join("shadow/", thing) }

func commandKey(id string) string { return "command/" + id }

func commandByTimeKey(x *commandExecution) string {
	return commandsKey(x.thing) + sortable(x.sent) + "/" + x.id
}

func commandsKey(thing string) string { return "commands/" + thing + "/" }

func jobKey(id string) string { return "job/" + id }

func jobByTimeKey(j *job) string { return jobsKey + sortable(j.created) + "/" + j.id }

const jobsKey = "jobs/"

func continuousKey(group, id string) string { return "continuous/" + group + "/" + id }

func executionKey(thing, job string) string { return "execution/" + thing + "/" + job }

func queueKey(thing string) string { return "queue/" + thing }

// eventKey is for an event at a time in milliseconds; id is that of its arrival.
func eventKey(thing string, e sdk.Value, id string) string {
	at, _ := e.Get("timestamp").Int()
	return eventsKey(thing) + sortable(at) + "/" + id
}

func eventsKey(thing string) string { return "event/" + thing + "/" }

// sortable writes a number so that texts sort as numbers do.
func sortable(n int64) string {
	text := strconv.FormatInt(n, 10)
	return "0000000000000000000"[:19-len(text)] + text
}
