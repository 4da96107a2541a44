// Types of the streams of a run: client.threads.stream<RunStreams>(…). Made by `make docs`.

export type RunStreams = { plan: Plan; steps: StepUpdate; questions: OpenQuestion };

export interface Ask {
  question: string;
  choices?: string[];
}

export interface Call {
  tool: string;
  args?: Record<string, unknown>;
}

export interface Failure {
  code: string;
  message: string;
}

export interface ItemsSoFar {
  done: number;
  total: number;
}

export interface OpenQuestion {
  id: string;
  name: string;
  args: Record<string, unknown>;
  description: string;
  value: unknown;
}

export interface Plan {
  id?: string;
  revision?: number;
  goal?: string;
  rationale?: string;
  complete?: boolean;
  inputs?: Record<string, Record<string, unknown>>;
  answer?: string;
  steps: Step[];
}

export interface RoleUsage {
  model_calls?: number;
  input_tokens?: number;
  output_tokens?: number;
  cost?: number;
  roles?: Record<string, number>;
}

export interface Step {
  id: string;
  task?: string;
  depends_on?: string[];
  call?: Call;
  tools?: string[];
  agent?: string;
  ask?: Ask;
  plan?: SubPlan;
  for_each?: string;
  when?: string;
  else_of?: string;
  if_failed?: string[];
  output_schema?: Record<string, unknown>;
  success_criteria?: Record<string, unknown>[];
  on_failure?: "auto" | "retry" | "skip" | "patch" | "replan" | "ask" | "abort";
  max_attempts?: number;
  timeout_s?: number;
  max_iterations?: number;
  model?: string;
  escalate?: string;
  approve?: boolean;
  confirm?: boolean;
}

export interface StepUpdate {
  step_id: string;
  within: string[];
  at: string;
  status: "running" | "done" | "failed" | "skipped" | "blocked";
  attempt: number;
  items: ItemsSoFar | null;
  verdict: "met" | "met_empty" | "failed" | "unverified" | null;
  error: Failure | null;
  usage: Usage;
}

export interface SubPlan {
  goal: string;
}

export interface Usage {
  model_calls?: number;
  input_tokens?: number;
  output_tokens?: number;
  total_tokens?: number;
  cost?: number;
  tool_calls?: number;
  seconds?: number;
  by_role?: Record<string, RoleUsage>;
  by_model?: Record<string, RoleUsage>;
}
