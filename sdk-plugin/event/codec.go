package event

// The functions of the codec, by file:
//
//	proto.go   AppendEvent / ParseEvent         io.cloudevents.v1.CloudEvent
//	           AppendRequest / ParseRequest     tributary.plugin.v1.HandleRequest
//	           AppendResponse / ParseResponse   tributary.plugin.v1.HandleResponse
//	json.go    AppendJSON / ParseJSON           CloudEvents JSON format
//	validate.go  Validate                       spec.md rules for one event
